"""Lies in releases and results, and jobs that stop half-way."""

from collections.abc import Iterator
from typing import Any

from ledger.statements.settlement import Line
from tests.generated.lies.fault import Fault
from tests.generated.lives import Departed
from tests.generated.market import Deal
from tests.generated.node import digest_of


class EarlyRelease(Fault):
    """The result is released before the last receipt is there."""

    code = "release_without_receipts"
    parties = 2

    def grant_payload(self, deal: Deal) -> dict[str, Any]:
        return super().grant_payload(deal) | {"minimum_parties": 2}

    def steps(self) -> Iterator[None]:
        self.put_job()
        for deal in self.deals:
            self.put_grant(deal)
            yield
        first, second = (deal.node for deal in self.deals)
        self.launch(first)
        self.put_receipt(first)
        yield
        self.put_release()
        yield
        self.launch(second)
        self.put_receipt(second)
        yield
        self.put_settlement()

    def lines(self) -> list[Line]:
        return super().lines()[:1]


class TooFew(Departed, Fault):
    """A party left, and the result is released with fewer than a grant permits."""

    code = "release_without_receipts"
    parties = 3

    def grant_payload(self, deal: Deal) -> dict[str, Any]:
        return super().grant_payload(deal) | {"minimum_parties": 3}


class OfBefore(Departed, Fault):
    """A party left, and what another sent before stands in the result of those who stayed."""

    code = "contributions_differ"
    parties = 3

    def release_payload(self) -> dict[str, Any]:
        payload = super().release_payload()
        name, receipt = next(iter(self.receipts.items()))
        early = {"receipt": name, "reply": receipt["contributions"][0]["reply"], "round": 1}
        return payload | {"contributions": [early, *payload["contributions"]]}


class OtherContributions(Fault):
    """The released sum is not that of the receipted contributions."""

    code = "contributions_differ"

    def release_payload(self) -> dict[str, Any]:
        payload = super().release_payload()
        payload["contributions"][0]["reply"] = digest_of("something added")
        return payload


class SecondRelease(Fault):
    """A job is released twice, with two results."""

    code = "duplicate_release"

    def put_release(self) -> None:
        super().put_release()
        super().put_release()

    def release_payload(self) -> dict[str, Any]:
        payload = super().release_payload()
        return payload | {"result": digest_of("another")} if self.release else payload


class SwappedResult(Fault):
    """The release names another result than the buyer got."""

    code = "wrong_result"

    def put_release(self) -> None:
        super().put_release()
        self.market.results[self.job] = digest_of("what the buyer got", self.job)


class SecretResult(Fault):
    """The buyer gets a result that was never released."""

    code = "unlogged_result"

    def put_release(self) -> None:
        self.market.results[self.job] = digest_of("result", self.job)

    def put_settlement(self, **odd: Any) -> None:
        pass


class DisownedResult(SecretResult):
    """The same, and the operator revokes the job, so that it seems to have had no result."""

    def put_settlement(self, **odd: Any) -> None:
        super().put_settlement(**odd)
        self.revoke()


class RevokedResult(Fault):
    """Released and billed, and then revoked: a use to be given back for a result that was had."""

    code = "revoked_release"
    revocation = ""

    def put_settlement(self, **odd: Any) -> None:
        super().put_settlement(**odd)
        self.revocation = self.revoke()

    def named(self) -> str:
        return f"entry {self.market.at[self.revocation]}"


class ReleasedAnyway(Fault):
    """Revoked, so that nothing is used up, and released all the same."""

    code = "revoked"

    def put_release(self) -> None:
        self.revoke()
        super().put_release()

    def named(self) -> str:
        return f"entry {self.market.at[self.release]}"


class Withheld(Fault):
    """Completed by every node, and never released."""

    code = "unreleased_job"

    def put_release(self) -> None:
        pass

    def put_settlement(self, **odd: Any) -> None:
        pass


class Unbilled(Fault):
    """Released, and never billed."""

    code = "unsettled_job"

    def put_settlement(self, **odd: Any) -> None:
        pass


class HalfDone(Fault):
    """One of two nodes never answers, and says nothing."""

    code = "unfinished_job"
    parties = 2

    def steps(self) -> Iterator[None]:
        self.put_job()
        for deal in self.deals:
            self.put_grant(deal)
            yield
        self.launch(self.deals[0].node)
        self.put_receipt(self.deals[0].node)


LIES: tuple[type[Fault], ...] = (
    EarlyRelease,
    TooFew,
    OfBefore,
    OtherContributions,
    SecondRelease,
    SwappedResult,
    SecretResult,
    DisownedResult,
    RevokedResult,
    ReleasedAnyway,
    Withheld,
    Unbilled,
    HalfDone,
)
