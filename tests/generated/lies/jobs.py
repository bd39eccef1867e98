"""Lies in jobs, grants and the agreements and assets under them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ledger.statements import Revocation
from tests.drafts import key_of
from tests.generated.lies.fault import Fault
from tests.generated.market import Deal
from tests.generated.node import Node, digest_of, party


class OtherPurpose(Fault):
    """A provider grants a purpose that its terms do not name."""

    code = "outside_terms"

    def job_payload(self) -> dict[str, Any]:
        return super().job_payload() | {"purpose": "marketing"}


class ForeignGrant(Fault):
    """A provider grants the use of another's asset."""

    code = "not_owner"

    def other(self) -> Node:
        return next(node for node in self.market.nodes if node is not self.deals[0].node)

    def grant_payload(self, deal: Deal) -> dict[str, Any]:
        return super().grant_payload(deal) | {"provider": self.other().owner.id}

    def put_grant(self, deal: Deal, key: Any = None) -> None:
        super().put_grant(deal, key or self.other().owner.key)


class ForeignAgreement(Fault):
    """A researcher asks under another's agreement; nobody answers."""

    code = "agreement_mismatch"

    def steps(self) -> Iterator[None]:
        others = [item for item in self.market.researchers if item is not self.researcher]
        deal = self.market.deal(self.deals[0].node, others[0])
        mine, self.deals = self.deals, [deal]
        self.put_job()
        self.deals = mine
        yield


class RevokedResearcher(Fault):
    """A job signed with a key that was revoked."""

    code = "revoked_key"

    def steps(self) -> Iterator[None]:
        market = self.market
        self.researcher = party("left.example")
        market.enrol(self.researcher, "researcher")
        self.deals = [market.agree(self.deals[0].node, self.researcher)]
        revocation = Revocation(market.operator.id, self.researcher.id, "key stolen", market.now)
        market.put(revocation, market.operator.key)
        yield
        self.put_job()


class InventedResearcher(Fault):
    """The operator invents a researcher, with a key of its own, and lets it ask."""

    code = "unknown_participant"

    def steps(self) -> Iterator[None]:
        market = self.market
        self.researcher = party("invented.example")
        market.enrol(self.researcher, "researcher")
        market.roster.remove(self.researcher.key.verify_key.text)
        self.deals = [market.agree(self.deals[0].node, self.researcher)]
        yield from super().steps()

    def named(self) -> str:
        return f"entry {self.market.at[self.researcher.id]}"


class ChangedAsset(Fault):
    """A provider lists an asset under another content digest than its node measured."""

    code = "measurement_invalid"

    def steps(self) -> Iterator[None]:
        market, name = self.market, "changed.example"
        owner, key = party(name), key_of(f"{name}/node")
        market.enrol(owner, "provider")
        node = Node(owner, key)
        true = market.measurement(node)
        false = replace(true, content_digest=digest_of("another file"))
        forged = true.sign(key) | {"payload": false.sign(key)["payload"]}
        market.list_asset(node, measurement=forged)
        self.deals = [market.agree(node, self.researcher)]
        yield from super().steps()

    def named(self) -> str:
        return f"entry {self.market.at[self.deals[0].node.asset]}"


LIES: tuple[type[Fault], ...] = (
    OtherPurpose,
    ForeignGrant,
    ForeignAgreement,
    RevokedResearcher,
    InventedResearcher,
    ChangedAsset,
)
