"""What programs read at the end of a scenario: the one object of `--json`."""

from __future__ import annotations

from typing import Any

from marketplace.scenario.play import Outcome


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the object that `--json` prints; docs/scenario.md describes it."""
    return {
        "scenario": outcome.scenario.title,
        "held": outcome.held,
        "jobs": [
            {
                "name": job.name,
                "task": job.task,
                "state": job.state,
                "seconds": round(job.seconds, 3),
                "result": job.result,
                "receipts": list(job.receipts),
            }
            for job in outcome.jobs
        ],
        "expectations": [
            {"name": each.name, "held": each.held, "detail": each.detail}
            for each in outcome.expectations
        ],
        "refusals": [
            {"name": each.name, "reason": each.reason, "held": each.held}
            for each in outcome.refusals
        ],
        "ledger": {
            "size": outcome.verdict.size,
            "root": outcome.verdict.root,
            "export": str(outcome.export),
            "vkey": outcome.log_key,
        },
    }
