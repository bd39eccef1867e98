"""Terms of use: a small ODRL subset and its pure evaluation.

Decides whether terms permit one request. Does not decide who signed them, nor whether they were
revoked: `ledger.rules` and the node's guard do. An empty list permits nothing.

    decision = evaluate(terms, Request(task="logistic", purpose="research", …), uses=2)
    decision.reason      # None when permitted, else the fixed word of a refusal

Model: ODRL Information Model 2.2 (https://www.w3.org/TR/odrl-model/), sections 2.5 and 2.6; each
field is a constraint on the one permission `compute` (see `to_odrl`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ledger.record import Record, distinct, not_negative, one_line, positive

ANYONE = "*"


@dataclass(frozen=True)
class Terms(Record):
    """What a provider permits with an asset.

    Attributes:
        tasks: names of permitted computations.
        purposes: permitted purposes.
        recipients: ids of permitted researchers, or `*` for every one that is enrolled.
        uses: number of completed jobs permitted under one agreement.
        until: end of validity, Unix milliseconds.
        exact: whether exact answers (without noise) are permitted.
        minimum_parties: fewest providers whose contributions are summed together.
    """

    tasks: Annotated[tuple[Annotated[str, one_line], ...], distinct]
    purposes: Annotated[tuple[Annotated[str, one_line], ...], distinct]
    recipients: Annotated[tuple[Annotated[str, one_line], ...], distinct]
    uses: Annotated[int, not_negative]
    until: Annotated[int, not_negative]
    exact: bool
    minimum_parties: Annotated[int, positive]

    def to_odrl(self) -> dict[str, Any]:
        """Return the terms as one ODRL permission with constraints, for display and exchange."""
        constraints = [
            ("task", "isAnyOf", list(self.tasks)),
            ("purpose", "isAnyOf", list(self.purposes)),
            ("recipient", "isAnyOf", list(self.recipients)),
            ("count", "lteq", self.uses),
            ("dateTime", "lteq", self.until),
            ("exact", "eq", self.exact),
            ("minimumParties", "gteq", self.minimum_parties),
        ]
        return {
            "permission": [
                {
                    "action": "compute",
                    "constraint": [
                        {"leftOperand": left, "operator": operator, "rightOperand": right}
                        for left, operator, right in constraints
                    ],
                }
            ]
        }


@dataclass(frozen=True)
class Request:
    """One use that somebody asks for."""

    task: str
    purpose: str
    recipient: str
    parties: int
    exact: bool
    time: int


@dataclass(frozen=True)
class Decision:
    """What the terms say to a request: `reason` is None when they permit it."""

    reason: str | None
    detail: str

    @property
    def permitted(self) -> bool:
        """Whether the terms permit the request."""
        return self.reason is None


def evaluate(  # noqa: PLR0911 - one line for each reason reads best
    terms: Terms, request: Request, uses: int
) -> Decision:
    """Decide one request; `uses` is how many are spent or reserved already.

    The order is fixed, so that the same request gets the same reason everywhere: what is asked,
    for which purpose, by whom and with whom, when, and how often.
    """
    if request.task not in terms.tasks:
        return Decision("grant_mismatch", f"the terms do not name the task {request.task}")
    if request.exact and not terms.exact:
        return Decision("grant_mismatch", "the terms permit no exact answer")
    if request.purpose not in terms.purposes:
        return Decision("purpose_not_allowed", f"the terms do not name {request.purpose}")
    if ANYONE not in terms.recipients and request.recipient not in terms.recipients:
        return Decision("grant_mismatch", "the terms do not name this recipient")
    if request.parties < terms.minimum_parties:
        return Decision("grant_mismatch", f"fewer than {terms.minimum_parties} parties")
    if request.time > terms.until:
        return Decision("agreement_expired", "the terms have ended")
    if uses >= terms.uses:
        return Decision("quota_used_up", f"all {terms.uses} uses are spent or reserved")
    return Decision(None, "permitted")
