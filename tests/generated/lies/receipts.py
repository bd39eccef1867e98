"""Lies in receipts: left out, doubled, or of a use that was not allowed."""

from collections.abc import Iterator
from typing import Any

from ledger.statements import Revocation
from tests.generated.lies.fault import Fault
from tests.generated.lives import Life
from tests.generated.market import Deal
from tests.generated.node import Node, digest_of


class OmittedReceipt(Fault):
    """The operator leaves a failure out of the log; the node's journal has it."""

    code = "missing_receipt"

    def steps(self) -> Iterator[None]:
        self.put_job()
        yield
        self.put_grant(self.deals[0])
        yield
        self.launch(self.deals[0].node)
        self.put_receipt(self.deals[0].node)

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        failure = {"contributions": [], "reason": "task_error", "state": "failed"}
        return super().receipt_payload(node) | failure

    def log_receipt(self, *_: Any) -> None:
        pass


class TwoReceipts(Fault):
    """A node computes a job twice."""

    code = "duplicate_receipt"

    def put_receipt(self, node: Node) -> None:
        super().put_receipt(node)
        first = dict(self.receipts)
        self.launch(node)
        super().put_receipt(node)
        self.receipts = first


class TwoEnds(TwoReceipts):
    """A node says that a job failed which it had completed."""

    code = "contradicting_receipt"

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        failure = {"contributions": [], "reason": "task_error", "state": "failed"}
        return super().receipt_payload(node) | (failure if self.receipts else {})


class RepeatedGrant(Fault):
    """The operator logs a grant again, so that it seems to have come later than it did."""

    code = "duplicate_statement"

    def put(self, kind: str, payload: dict[str, Any], *rest: Any, **odd: Any) -> str:
        name = super().put(kind, payload, *rest, **odd)
        if kind == "grant":
            refs, *keys = rest
            first, (_, envelope) = self.market.at[name], self.market.sign(kind, payload, *keys)
            self.entries[self.market.log(name, envelope, refs)] = kind
            self.market.at[name] = first
        return name


class Belated(Fault):
    """A node computes after its grant has ended."""

    code = "expired_grant"

    def grant_payload(self, deal: Deal) -> dict[str, Any]:
        return super().grant_payload(deal) | {"until": self.market.now + 1}


class ReusedGrant(Fault):
    """A node computes under the grant of another job."""

    code = "grant_mismatch"

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        return super().receipt_payload(node) | {"grant": node.grants[0]}


class BeyondQuota(Fault):
    """Two jobs are granted while one use is left, and both are computed."""

    code = "over_quota"

    def steps(self) -> Iterator[None]:
        market, node = self.market, self.deals[0].node
        deal = market.agree(node, self.researcher, 1)
        self.deals = [deal]
        other = Life(market, self.number, [deal])
        other.nonce += " once more"
        other.erasable = False
        first, second = other.play(), super().steps()
        for _ in range(2):
            next(first)
            next(second)
            yield
        for _ in first:
            yield
        yield from second


class Overspent(Fault):
    """A node spends more privacy than the agreement's budget holds."""

    code = "overspent_budget"

    def steps(self) -> Iterator[None]:
        self.deals = [self.market.agree(self.deals[0].node, self.researcher, noisy=True)]
        yield from super().steps()

    def meter(self, _node: Node) -> dict[str, int]:
        return {"spent_micro": (self.deals[0].budget or 0) + 1}


class Unmetered(Overspent):
    """A node does not say what it spent."""

    code = "unmetered"

    def meter(self, _node: Node) -> dict[str, int]:
        return {}


class OtherCode(Fault):
    """A node runs other code than the job names."""

    code = "code_unknown"

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        return super().receipt_payload(node) | {"code_digest": digest_of("other code")}


class Unseen(Fault):
    """A node computes before it could have seen the grant."""

    code = "not_proven"

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        return super().receipt_payload(node) | {"log_size": self.market.at[self.job]}


class Foreseen(Fault):
    """A node claims to have read what was not there yet."""

    code = "not_seen_yet"

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        return super().receipt_payload(node) | {"log_size": self.market.book.size + 100}


class MoreRounds(Fault):
    """A node answers more rounds than its provider granted."""

    code = "too_many_rounds"

    def contributions(self, node: Node, rounds: int = 1) -> list[dict[str, Any]]:
        return super().contributions(node, rounds + 2)


class RevokedAgreement(Fault):
    """A node computes although the agreement was revoked meanwhile."""

    code = "revoked"

    def launch(self, node: Node) -> None:
        deal, owner = self.deals[0], node.owner
        revocation = Revocation(owner.id, deal.id, "withdrawn", self.market.now)
        self.market.put(revocation, owner.key)
        super().launch(node)

    def steps(self) -> Iterator[None]:
        # An agreement of its own: no other job under it shall be touched.
        self.deals = [self.market.agree(self.deals[0].node, self.researcher)]
        yield from super().steps()


class ForeignSignature(Fault):
    """A receipt signed by somebody who is not the node."""

    code = "bad_signature"

    def put_receipt(self, node: Node) -> None:
        payload = self.receipt_payload(node)
        name, envelope = self.market.sign("receipt", payload, self.market.operator.key)
        self.finish(node, name, payload["state"])
        self.log_receipt(node, name, envelope, payload)

    def log_receipt(self, _node: Node, name: str, envelope: bytes, payload: dict[str, Any]) -> None:
        refs = (payload["asset"], payload["job"], payload["grant"])
        self.entries[self.market.log(name, envelope, refs)] = "receipt"
        self.receipts[name] = payload


class ForkedJournal(Fault):
    """A receipt that stands at the place of an earlier one in its node's journal."""

    code = "journal_fork"

    def steps(self) -> Iterator[None]:
        self.put_job()
        yield
        node = self.deals[0].node
        self.put_grant(self.deals[0])
        other = Life(self.market, self.number, [self.market.deal(node, self.researcher)])
        other.nonce, other.erasable = f"{self.nonce} besides", False
        before = other.play()
        next(before)
        next(before)
        next(before)
        place = {"head": node.head, "sequence": node.line}
        for _ in before:
            yield
        self.launch(node)
        self.place = place
        self.put_receipt(node)
        yield
        self.put_release()
        self.put_settlement()

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        return super().receipt_payload(node) | {"journal": self.place}


LIES: tuple[type[Fault], ...] = (
    OmittedReceipt,
    TwoReceipts,
    TwoEnds,
    RepeatedGrant,
    Belated,
    ReusedGrant,
    BeyondQuota,
    Overspent,
    Unmetered,
    OtherCode,
    Unseen,
    Foreseen,
    MoreRounds,
    RevokedAgreement,
    ForeignSignature,
    ForkedJournal,
)
