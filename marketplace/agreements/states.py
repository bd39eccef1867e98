"""States of a negotiation and the moves between them, as a table.

They are those of the contract negotiation protocol of the Dataspace Protocol 2025-1 ("Contract
Negotiation Protocol", states and state machine): consumer is our researcher. A move that is not in
the table does not exist. One thing is narrower here than there: after VERIFIED both have signed
and the agreement goes into the log, so it can no longer be terminated, only revoked.

    check("REQUESTED", "OFFERED", "provider")      # returns
    check("REQUESTED", "ACCEPTED", "researcher")   # TransitionError
"""

from __future__ import annotations

from typing import Final, Literal

from marketplace.errors import TransitionError

State = Literal["REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED", "FINALIZED", "TERMINATED"]
Role = Literal["researcher", "provider"]

INITIAL: Final = "REQUESTED"
TERMINAL: Final = frozenset({"FINALIZED", "TERMINATED"})

_EITHER: Final = frozenset({"researcher", "provider"})
MOVES: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("REQUESTED", "OFFERED"): frozenset({"provider"}),
    ("REQUESTED", "AGREED"): frozenset({"provider"}),
    ("REQUESTED", "TERMINATED"): _EITHER,
    ("OFFERED", "REQUESTED"): frozenset({"researcher"}),
    ("OFFERED", "ACCEPTED"): frozenset({"researcher"}),
    ("OFFERED", "TERMINATED"): _EITHER,
    ("ACCEPTED", "AGREED"): frozenset({"provider"}),
    ("ACCEPTED", "TERMINATED"): _EITHER,
    ("AGREED", "VERIFIED"): frozenset({"researcher"}),
    ("AGREED", "TERMINATED"): _EITHER,
    ("VERIFIED", "FINALIZED"): frozenset({"provider"}),
}
"""(from, to): who may make the move."""


def check(before: str, after: str, role: str) -> None:
    """Return only if this role may move a negotiation so.

    Raises:
        TransitionError: it may not; the message names the moves that are permitted.
    """
    if role in MOVES.get((before, after), frozenset()):
        return
    possible = sorted(
        to for (start, to), roles in MOVES.items() if start == before and role in roles
    )
    raise TransitionError(
        f"a {role} cannot move a negotiation from {before} to {after}; "
        f"possible now: {', '.join(possible) or 'nothing'}"
    )
