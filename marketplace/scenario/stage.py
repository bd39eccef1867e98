"""The parties of a scenario on their stage: enrolled, listed, offered and agreed.

What the scenario's jobs and its attempts at refusal both need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from federated.node.runner import Node
from ledger.terms import Terms
from marketplace.client import ENDED, Home, Provider, Researcher
from marketplace.embedded import Embedded
from marketplace.scenario.parts import ProviderPart, Scenario

RESEARCHER = "Researcher"
AUDITOR = "Auditor"
# How often the researcher looks at a running job, seconds.
LOOK_INTERVAL = 0.05


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
    node: Node
    offer: str = ""

    @property
    def asset(self) -> str:
        """Id of the provider's asset."""
        return self.node.asset


@dataclass
class Stage:
    """Everyone, and the agreements that the jobs run under (asset id to agreement id)."""

    market: Embedded
    scenario: Scenario
    researcher: Researcher
    seats: list[Seat] = field(default_factory=list)
    agreements: dict[str, str] = field(default_factory=dict)

    @classmethod
    def set_up(cls, market: Embedded, scenario: Scenario) -> Stage:
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
