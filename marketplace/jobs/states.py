"""States of a job and the moves between them, as a table.

    requested ──> granted ──> running ──> released
        │            │           │
        └────────────┴───────────┴──────> refused | failed | cancelled

`requested` waits for grants, `granted` for the worker. A worker whose lease ran out loses the job
to the next one without a change of state; the fencing counter tells the two apart.
"""

from __future__ import annotations

from typing import Final, Literal

from marketplace.errors import TransitionError

State = Literal["requested", "granted", "running", "released", "refused", "failed", "cancelled"]

INITIAL: Final = "requested"
STOPPED: Final = "stopped"
"""Reason of a party that had not answered when its job ended for another's reason."""

NO_ANSWER: Final = "no_answer"
"""Reason of a party, and of its job, whose grant or refusal did not come in time."""

NO_RECEIPT: Final = "no_receipt"
"""Reason of a party, and of its job, whose receipt did not come into the log in time."""

OPEN: Final = ("requested", "granted", "running")
ENDS: Final = frozenset({"refused", "failed", "cancelled"})
TERMINAL: Final = ENDS | {"released"}

MOVES: Final[dict[str, frozenset[str]]] = {
    "requested": frozenset({"granted"}) | ENDS,
    "granted": frozenset({"running"}) | ENDS,
    "running": frozenset({"released"}) | ENDS,
    "released": frozenset(),
    "refused": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}

PARTY_MOVES: Final[dict[str, frozenset[str]]] = {
    "waiting": frozenset({"granted", "refused", "failed"}),
    "granted": frozenset({"completed", "refused", "failed"}),
    "completed": frozenset(),
    "refused": frozenset(),
    "failed": frozenset(),
}
"""States of one party of a job: grant, then receipt."""


def check(before: str, after: str) -> None:
    """Return only if a job may move so.

    Raises:
        TransitionError: it may not.
    """
    if after not in MOVES.get(before, frozenset()):
        raise TransitionError(f"a job cannot move from {before} to {after}")


def check_party(before: str, after: str) -> None:
    """Return only if a party of a job may move so.

    Raises:
        TransitionError: it may not.
    """
    if after not in PARTY_MOVES.get(before, frozenset()):
        raise TransitionError(f"a party of a job cannot move from {before} to {after}")
