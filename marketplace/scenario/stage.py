"""The parties of a scenario on their stage: enrolled, listed, offered and agreed.

What the scenario's jobs and its attempts at refusal both need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from ledger.keys import VerifyKey
from ledger.terms import Terms
from marketplace.client import ENDED, Home, Provider, Researcher
from marketplace.scenario.parts import ProviderPart, Scenario

RESEARCHER = "Researcher"
AUDITOR = "Auditor"
# How often the researcher looks at a running job, seconds.
LOOK_INTERVAL = 0.05


class SeatedNode(Protocol):
    """A provider's node: in this process, or in one of its own."""

    @property
    def asset(self) -> str:
        """Id of the asset that it guards."""

    def approve(self, job_id: str) -> str:
        """Have the node decide on a job: `granted`, or a RefusedError."""


class Market(Protocol):
    """A whole marketplace on one machine, in one process or in many."""

    clock: Callable[[], int]

    @property
    def log_key(self) -> VerifyKey:
        """The log's verifier key."""

    def http(self) -> httpx.Client:
        """Return a new client of the service, without credentials."""

    def enrol(self, name: str, role: str) -> Home:
        """Enrol a party with a code of the operator's."""

    def add_node(
        self,
        home: Home,
        file: Path,
        reading: Mapping[str, Any],
        *,
        cost_cents: int = 0,
        description: str = "",
        use_rights: str = "",
    ) -> SeatedNode:
        """List a data file and let a node guard it."""

    def ask(self, asset: str, body: bytes) -> bytes:
        """Put a request to a node as the operator's coordinator does; return its reply."""

    def decide(self) -> object:
        """See to it that nodes that decide by rule decide what waits."""

    def undecided(self) -> AbstractContextManager[None]:
        """Let no node decide by itself meanwhile."""

    def keep_books(self) -> None:
        """See to it that every node has told the log what it has to tell."""

    def insecure_operator(self) -> AbstractContextManager[None]:
        """Switch the operator's own checks off."""

    def export(self, folder: Path) -> None:
        """Write the log to a new folder for an auditor, with everything opened."""


@dataclass
class Seat:
    """One provider at work.

    Attributes:
        asset: id of its asset.
        offer: id of its offer under the scenario's terms.
    """

    part: ProviderPart
    home: Home
    client: Provider
    node: SeatedNode
    offer: str = ""

    @property
    def asset(self) -> str:
        """Id of the provider's asset."""
        return self.node.asset


@dataclass
class Stage:
    """Everyone, and the agreements that the jobs run under (asset id to agreement id)."""

    market: Market
    scenario: Scenario
    researcher: Researcher
    seats: list[Seat] = field(default_factory=list)
    agreements: dict[str, str] = field(default_factory=dict)

    @classmethod
    def set_up(cls, market: Market, scenario: Scenario) -> Stage:
        """Enrol researcher and auditor."""
        home = market.enrol(RESEARCHER, "researcher")
        market.enrol(AUDITOR, "auditor")
        return cls(market, scenario, Researcher(home, market.http(), market.clock))

    def seat(self, part: ProviderPart) -> Seat:
        """Enrol a provider, measure its data at its node, list and offer them."""
        home = self.market.enrol(part.name, "provider")
        node = self.market.add_node(
            home,
            part.file,
            part.reading.to_json(),
            cost_cents=part.cost_cents,
            description=part.description,
            use_rights=part.rights,
        )
        client = Provider(home, self.market.http(), self.market.clock)
        seat = Seat(part, home, client, node)
        seat.offer = client.offer(node.asset, part.terms, part.price_cents)
        self.seats.append(seat)
        return seat

    def agree(self, seat: Seat) -> None:
        """Negotiate the scenario's agreement with one provider."""
        preparation = self.scenario.preparation.to_json()
        self.agreements[seat.asset] = self._negotiate(seat, seat.offer, preparation)

    def wait(
        self, job: str, show: Callable[[Mapping[str, Any]], None] = lambda _: None
    ) -> dict[str, Any]:
        """Wait until a job has ended; return how.

        Args:
            job: id of the job.
            show: called with the job's view each time it was looked at.
        """
        while True:
            view = self.researcher.job(job)
            show(view)
            if view["state"] in ENDED:
                return view
            time.sleep(LOOK_INTERVAL)

    def agree_apart(
        self, seat: Seat, terms: Terms, preparation: Mapping[str, Any] | None = None
    ) -> str:
        """Negotiate an agreement of its own, under other terms or rows; return its id."""
        offer = seat.client.offer(seat.asset, terms, seat.part.price_cents)
        rows = self.scenario.preparation.to_json() if preparation is None else preparation
        return self._negotiate(seat, offer, rows)

    def _negotiate(self, seat: Seat, offer_id: str, preparation: Mapping[str, Any]) -> str:
        offers = self.researcher.call("GET", f"/offers?asset={seat.asset}")
        (offer,) = [each for each in offers if each["id"] == offer_id]
        negotiation = self.researcher.negotiate(offer, preparation)
        seat.client.agree_by_rule()
        return self.researcher.countersign(negotiation)
