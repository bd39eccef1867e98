"""Lies in bills, and in the entries that carry them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ledger.statements import Revocation, Shred
from ledger.statements.settlement import Line
from tests.generated.lies.fault import Fault
from tests.generated.lives import Departed, Life


class HigherPrice(Fault):
    """A bill above the price agreed."""

    code = "wrong_price"

    def lines(self) -> list[Line]:
        first, *rest = super().lines()
        more = replace(first, price_cents=first.price_cents + 100,
                       share_cents=first.share_cents + 100)  # fmt: skip
        return [more, *rest]


class HigherFee(Fault):
    """The operator keeps more than was agreed."""

    code = "wrong_fee"

    def lines(self) -> list[Line]:
        first, *rest = super().lines()
        more = replace(first, fee_cents=first.fee_cents + 50, share_cents=first.share_cents - 50)
        return [more, *rest]


class Unbalanced(Fault):
    """Postings that do not add up to the bill."""

    code = "unbalanced"

    def settlement_payload(self) -> dict[str, Any]:
        payload = super().settlement_payload()
        payload["postings"][-1]["amount_cents"] += 1
        return payload


class OtherPayer(Fault):
    """A bill to somebody who did not ask."""

    code = "settlement_mismatch"

    def payer(self) -> str:
        others = [item for item in self.market.researchers if item is not self.researcher]
        return others[0].id


class BilledThoughGone(Departed, Fault):
    """A bill with a line for a party that left, and is not in the result."""

    code = "settlement_mismatch"
    parties = 2

    def lines(self) -> list[Line]:
        return Life.lines(self)


class SecondBill(Fault):
    """A job is billed twice."""

    code = "duplicate_settlement"

    def put_settlement(self, **odd: Any) -> None:
        super().put_settlement(**odd)
        self.market.now += 1
        super().put_settlement(**odd)


class Backdated(Fault):
    """An entry older than the one before it."""

    code = "time_goes_back"

    def put_settlement(self, **odd: Any) -> None:
        super().put_settlement(**odd, time=self.market.now - 60_000)


class MadeBeforeSigned(Fault):
    """An entry that says it was made an hour before its statement was signed."""

    code = "backdated"

    def settlement_payload(self) -> dict[str, Any]:
        return super().settlement_payload() | {"issued": self.market.now + 3_600_000}


class BrokenChain(Fault):
    """An entry that names another predecessor."""

    code = "chain_broken"

    def put_settlement(self, **odd: Any) -> None:
        super().put_settlement(**odd, previous=bytes(range(32)))


class OtherReferences(Fault):
    """An entry that points elsewhere than its statement."""

    code = "references_mismatch"

    def put_settlement(self, **odd: Any) -> None:
        payload = self.settlement_payload()
        refs = (self.job, self.release, *(line["agreement"] for line in payload["lines"]))
        indexes = [self.market.at[item] for item in refs]
        super().put_settlement(**odd, refers_to=[self.market.first_job, *indexes[1:]])


class OtherOpening(Fault):
    """The export opens an entry with another statement."""

    code = "wrong_opening"

    def put_settlement(self, **odd: Any) -> None:
        super().put_settlement(**odd)
        index = max(self.entries)
        payload = self.settlement_payload() | {"issued": self.market.now + 1}
        _, other = self.market.sign("settlement", payload, self.market.operator.key)
        self.market.book.swapped[index] = other


class ErasedInSilence(Fault):
    """A statement is erased, and no entry says so."""

    code = "erased_unlogged"

    def put_settlement(self, **odd: Any) -> None:
        super().put_settlement(**odd)
        self.market.erased.add(max(self.entries))


class ErasedEarly(Fault):
    """A statement is erased while its agreement is in force."""

    code = "shred_too_early"

    def put_settlement(self, **odd: Any) -> None:
        super().put_settlement(**odd)
        shred = Shred((max(self.entries),), "settlement", "inconvenient", self.market.now)
        self.shred = self.market.put(shred, self.market.operator.key)

    def named(self) -> str:
        return f"entry {self.market.at[self.shred]}"


class ErasedAsOther(ErasedEarly):
    """An erasure that names an entry of another kind."""

    code = "wrong_shred"

    def put_settlement(self, **odd: Any) -> None:
        Life.put_settlement(self, **odd)
        shred = Shred((max(self.entries),), "receipt", "mistaken", self.market.now)
        self.shred = self.market.put(shred, self.market.operator.key)


class NotErased(Fault):
    """The log says that a statement was erased, and the export still opens it."""

    code = "not_erased"

    def steps(self) -> Iterator[None]:
        deal = self.market.agree(self.deals[0].node, self.researcher)
        self.deals = [deal]
        yield from super().steps()
        yield
        owner = deal.node.owner
        self.market.put(Revocation(owner.id, deal.id, "ended", self.market.now), owner.key)
        shred = Shred((max(self.entries),), "settlement", "agreement ended", self.market.now)
        self.market.put(shred, self.market.operator.key)


LIES: tuple[type[Fault], ...] = (
    HigherPrice,
    HigherFee,
    Unbalanced,
    OtherPayer,
    BilledThoughGone,
    SecondBill,
    Backdated,
    MadeBeforeSigned,
    BrokenChain,
    OtherReferences,
    OtherOpening,
    ErasedInSilence,
    ErasedEarly,
    ErasedAsOther,
    NotErased,
)
