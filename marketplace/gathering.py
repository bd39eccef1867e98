"""Collects what a released result rests on: statements from one's own log, bytes from the service.

    released, evidence = gather(client.call, client.log, job_id)
    result = recompute(evidence, released, opener)

Decides that the log shows a release, and one that breaks none of its rules as far as this party can
read. Does not decide whether the result is right (`recompute`): nothing of it is believed yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.client import LogClient
from ledger.statements import Asset, Job, Receipt, Release
from marketplace.recompute import Evidence, ResultError, read_exchanges

Call = Callable[[str, str], Any]
"""Method and path in, parsed JSON out: `marketplace.client.Client.call`."""


def gather(call: Call, log: LogClient, job_id: str) -> tuple[Any, Evidence]:
    """Return the released document, and the evidence that it must be held against.

    Args:
        call: how the service is asked.
        log: this party's own reader of the log.
        job_id: id of the job.

    Raises:
        ResultError: there is no release, or one that breaks a rule; the service's answer cannot be
            read.
        ClientError: the service refused: nothing was released, or not for this party.
    """
    released = call("GET", f"/jobs/{job_id}/result")
    exchanges = read_exchanges(
        call("GET", f"/jobs/{job_id}/contributions"), call("GET", f"/jobs/{job_id}/openings")
    )
    log.sync()
    history = log.history
    release = history.released.get(job_id)
    if release is None or not isinstance(release.statement, Release):
        raise ResultError("the log holds no release of this job")
    if release.id in history.broken:
        raise ResultError(f"the release breaks a rule of the log: {history.broken[release.id]}")
    job = history.get(job_id, Job)
    return released, Evidence(
        job_id=job_id,
        job=job,
        assets={asset: history.get(asset, Asset) for asset in job.assets},
        receipts={each: history.get(each, Receipt) for each in release.statement.receipts},
        release=release.statement,
        exchanges=exchanges,
    )
