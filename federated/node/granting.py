"""What a provider signs when it permits one job: the grant, from a permit of the guard.

Decides how long it is valid and how many rounds it covers; whether there is one to sign is the
guard's decision (`federated.node.guard`).
"""

from __future__ import annotations

from typing import Final

from federated.node.guard import Limits, Permit
from federated.node.identity import Identity
from federated.planning import plan_of
from federated.tasks import AnyTask, JointTask
from ledger.statements import Grant

DAY: Final = 86_400_000
ROUNDS_PER_QUESTION: Final = 3
"""How often the questions may be asked anew because a party has left."""


def grant_of(permit: Permit, identity: Identity, limits: Limits, now: int) -> Grant:
    """Return the grant for a job that the guard permits.

    Args:
        permit: its decision.
        identity: whose asset it is.
        limits: this node's own.
        now: Unix milliseconds.
    """
    task, _ = plan_of(permit.job, permit.assets)
    terms = permit.agreement.terms
    return Grant(
        provider=identity.provider,
        asset=identity.asset,
        agreement=permit.agreement_id,
        job=permit.job_id,
        cohort=permit.job.assets,
        minimum_parties=terms.minimum_parties,
        rounds=_most_rounds(task),
        until=min(now + limits.grant_days * DAY, terms.until),
        issued=now,
    )


def _most_rounds(task: AnyTask) -> int:
    if isinstance(task, JointTask):
        return task.most_rounds
    return ROUNDS_PER_QUESTION * task.most_questions
