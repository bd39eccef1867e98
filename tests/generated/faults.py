"""Jobs of a dishonest signer: each is the life of one job with one lie in it.

The signer holds the log's key, the operator's, and, where the lie needs it, keys of nodes and
providers. After the lie it goes on as if nothing had happened and signs everything anew: chain,
checkpoint, manifest, journals. So nothing is found by a hash or signature that a careful liar
would have repaired. See `tests.generated.injector`.
"""

from tests.generated.lies import bills, enrolments, jobs, journals, receipts, results
from tests.generated.lies.fault import Fault

JOBS: tuple[type[Fault], ...] = (
    *receipts.LIES,
    *jobs.LIES,
    *results.LIES,
    *bills.LIES,
    *journals.LIES,
    *enrolments.LIES,
)
