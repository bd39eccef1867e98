"""Jobs of a dishonest signer: each is the life of one job with one lie in it.

The signer holds the log's key, the operator's, and, where the lie needs it, keys of nodes and
providers. After the lie it goes on as if nothing had happened and signs everything anew: chain,
checkpoint, manifest, journals. So nothing is found by a hash or signature that a careful liar
would have repaired. See `tests.generated.injector`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ledger.journal import JournalLine
from ledger.keys import SigningKey
from ledger.statements import Revocation, Schedule, Shred
from ledger.statements.settlement import Line
from tests.generated.lives import Life
from tests.generated.market import Deal
from tests.generated.node import Node, Party, digest_of, party
from tests.world import key_of


class Fault(Life):
    """A job with a lie in it.

    Attributes:
        code: as what it should be found.
        parties: how many nodes the job needs.
        at: places of the nodes that it needs, where these must not be any.
    """

    code = ""
    parties = 1
    at: tuple[int, ...] = ()
    erasable = False

    def named(self) -> str:
        """What the finding must name; the job, unless told otherwise."""
        return self.job


# Receipts.


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


# Jobs and grants.


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


# Releases and results.


class EarlyRelease(Fault):
    """The result is released before the last receipt is there."""

    code = "release_without_receipts"
    parties = 2

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


# Bills, and the entries that carry them.


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


# Journals.


class UnloggedJob(Fault):
    """A node computes a job that never comes into the log."""

    code = "unlogged_job"

    def steps(self) -> Iterator[None]:
        node = self.deals[0].node
        self.job, _ = self.market.sign("job", self.job_payload(), self.researcher.key)
        yield
        self.launch(node)
        receipt, _ = self.market.sign("receipt", self.receipt_payload(node), node.key)
        self.finish(node, receipt, "completed")


class LostCanary(Fault):
    """A job that the auditor planted is left out altogether."""

    code = "missing_canary"

    def steps(self) -> Iterator[None]:
        self.market.canaries.append(self.nonce)
        yield

    def named(self) -> str:
        return self.nonce


class MissingLine(Fault):
    """A node hands out a journal without the lines of one job."""

    code = "missing_line"
    at = (17,)

    def play(self) -> Iterator[None]:
        yield from super().play()
        self.market.tampered[self.deals[0].node.asset] = self.tamper

    def tamper(self, lines: list[JournalLine]) -> list[JournalLine]:
        return [line for line in lines if line.body.get("job") != self.job]


class RewrittenJournal(Fault):
    """A node hands out a journal in which one line says something else."""

    code = "journal_mismatch"
    at = (18,)

    def steps(self) -> Iterator[None]:
        self.put_job()
        yield
        self.put_grant(self.deals[0])
        self.launch(self.deals[0].node)
        self.put_receipt(self.deals[0].node)
        yield
        self.put_release()
        self.put_settlement()
        self.market.tampered[self.deals[0].node.asset] = self.tamper

    def tamper(self, lines: list[JournalLine]) -> list[JournalLine]:
        def changed(line: JournalLine) -> JournalLine:
            if line.kind == "reply" and line.body["job"] == self.job:
                return replace(line, body=line.body | {"step": "9"})
            return line

        return [changed(line) for line in lines]


# Enrolments and the schedule, said by the operator beside any job.


class Beside(Fault):
    """An honest job; before it the operator says something that cannot stand."""

    def steps(self) -> Iterator[None]:
        self.said = self.say()
        yield
        yield from super().steps()

    def say(self) -> str:
        raise NotImplementedError

    def named(self) -> str:
        return f"entry {self.market.at[self.said]}"


class BorrowedKey(Beside):
    """Somebody enrols with another's key under a new name."""

    code = "duplicate_key"

    def say(self) -> str:
        seed = key_of(self.market.researchers[1].name).to_text()
        old = SigningKey.from_text(seed)
        key = SigningKey("another.example", old._private)
        self.market.enrol(new := Party("another.example", key), "researcher")
        return new.id


class SecondOperator(Beside):
    """Another operator enrols."""

    code = "second_operator"

    def say(self) -> str:
        self.market.enrol(new := party("rival.example"), "operator")
        return new.id


class SecondSchedule(Beside):
    """The operator makes epochs longer, so that closes come later."""

    code = "second_schedule"

    def say(self) -> str:
        later = Schedule(10**6, 10**6, self.market.now)
        return self.market.put(later, self.market.operator.key)


JOBS: tuple[type[Fault], ...] = (
    OmittedReceipt, TwoReceipts, RepeatedGrant, ReusedGrant, BeyondQuota, Overspent, Unmetered,
    OtherCode, Unseen, Foreseen, MoreRounds,
    RevokedAgreement, ForeignSignature, ForkedJournal, OtherPurpose, ForeignGrant,
    ForeignAgreement, RevokedResearcher, InventedResearcher, ChangedAsset, EarlyRelease,
    OtherContributions, SecondRelease, SwappedResult, SecretResult, Withheld, Unbilled, HalfDone,
    HigherPrice, HigherFee, Unbalanced, OtherPayer, SecondBill, Backdated, BrokenChain,
    OtherReferences, OtherOpening, ErasedInSilence, ErasedEarly, ErasedAsOther, NotErased,
    UnloggedJob, LostCanary, MissingLine, RewrittenJournal, BorrowedKey, SecondOperator,
    SecondSchedule,
)  # fmt: skip
