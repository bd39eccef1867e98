"""The life of one job in a generated history: it is asked, granted, computed, released and paid."""

from collections.abc import Iterator
from typing import Any

from ledger.statements import Revocation
from ledger.statements.settlement import Line, postings
from tests.drafts import CODE
from tests.generated.market import FEE_PPM, SPENT_MICRO, Deal, Market
from tests.generated.node import Node, digest_of

HOUR = 3_600_000


class Life:
    """An honest job that completes. Each step is a method; another life overrides some of them.

    Attributes:
        entries: the log entries that this job made, with their kinds.
        erasable: whether its statements may be erased when its agreement has ended.
    """

    erasable = True

    def __init__(self, market: Market, number: int, deals: list[Deal]) -> None:
        self.market = market
        self.number = number
        self.deals = deals
        self.researcher = deals[0].researcher
        self.nonce = f"nonce {number}"
        self.job = ""
        self.entries: dict[int, str] = {}
        self.grants: dict[str, str] = {}
        self.receipts: dict[str, dict[str, Any]] = {}
        self.release = ""
        for deal in deals:
            deal.left -= 1
            deal.active += 1
            deal.jobs.append(self)

    def play(self) -> Iterator[None]:
        yield from self.steps()
        for deal in self.deals:
            deal.active -= 1

    def steps(self) -> Iterator[None]:
        self.put_job()
        yield
        for deal in self.deals:
            self.put_grant(deal)
            yield
        for deal in self.deals:
            self.launch(deal.node)
            yield
            self.put_receipt(deal.node)
            yield
        self.put_release()
        yield
        self.put_settlement()

    def begin(self) -> Iterator[None]:
        """Asked, granted by everybody, and launched at every node."""
        self.put_job()
        yield
        for deal in self.deals:
            self.put_grant(deal)
            yield
        for deal in self.deals:
            self.launch(deal.node)
            yield

    def put(
        self,
        kind: str,
        payload: dict[str, Any],
        refs: tuple[str | None, ...],
        *keys: Any,
        **odd: Any,
    ) -> str:
        name, envelope = self.market.sign(kind, payload, *keys)
        self.entries[self.market.log(name, envelope, refs, **odd)] = kind
        return name

    def revoke(self) -> str:
        """Say that nothing of the job will be released."""
        operator = self.market.operator
        return self.market.put(
            Revocation(operator.id, self.job, "failed: no_reply", self.market.now), operator.key
        )

    # One step each: what is said, and its logging.

    def job_payload(self) -> dict[str, Any]:
        return {
            "agreements": [deal.id for deal in self.deals],
            "assets": [deal.node.asset for deal in self.deals],
            "code_digest": CODE,
            "encryption_key": None,
            "issued": self.market.now,
            "name": "a question",
            "nonce": self.nonce,
            "parameters": {"columns": ["age"]},
            "preparation": {"complete_rows": True},
            "purpose": "research",
            "researcher": self.researcher.id,
            "task": "statistics",
            "task_version": 1,
        }

    def put_job(self) -> None:
        payload = self.job_payload()
        refs = (payload["researcher"], *payload["assets"], *payload["agreements"])
        self.job = self.put("job", payload, refs, self.researcher.key)

    def grant_payload(self, deal: Deal) -> dict[str, Any]:
        return {
            "agreement": deal.id,
            "asset": deal.node.asset,
            "cohort": [item.node.asset for item in self.deals],
            "issued": self.market.now,
            "job": self.job,
            "minimum_parties": 1,
            "provider": deal.node.owner.id,
            "rounds": 2,
            "until": self.market.now + HOUR,
        }

    def put_grant(self, deal: Deal, key: Any = None) -> None:
        node, payload = deal.node, self.grant_payload(deal)
        refs = (payload["provider"], payload["asset"], payload["agreement"], payload["job"])
        self.grants[node.asset] = self.put("grant", payload, refs, key or node.owner.key)
        node.write(self.market.now, "reserve", {"asset": node.asset, "job": self.job})

    def launch(self, node: Node) -> None:
        body = {"asset": node.asset, "job": self.job}
        node.write(self.market.now, "launch", body)
        node.write(self.market.now, "reply", body | {"step": "1"})

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        return {
            "asset": node.asset,
            "code_digest": CODE,
            "contributions": self.contributions(node),
            "grant": self.grants.get(node.asset),
            "issued": self.market.now,
            "job": self.job,
            "journal": {"head": node.head, "sequence": node.line},
            "log_size": self.market.book.size,
            "reason": None,
            "rows": 100,
            "state": "completed",
        }

    def contributions(self, node: Node, rounds: int = 1) -> list[dict[str, Any]]:
        return [
            {
                "reply": digest_of("reply", turn, self.job, node.asset),
                "request": digest_of("request", turn, self.job),
                "round": turn,
            }
            for turn in range(1, rounds + 1)
        ]

    def put_receipt(self, node: Node) -> None:
        payload = self.receipt_payload(node) | self.meter(node)
        if "spent_micro" in payload and not payload["contributions"]:
            payload["spent_micro"] = 0
        name, envelope = self.market.sign("receipt", payload, node.key)
        self.finish(node, name, payload["state"])
        self.log_receipt(node, name, envelope, payload)

    def meter(self, node: Node) -> dict[str, int]:
        """What is spent of a privacy budget, where the agreement has one."""
        budgeted = any(deal.node is node and deal.budget for deal in self.deals)
        return {"spent_micro": SPENT_MICRO} if budgeted else {}

    def finish(self, node: Node, receipt: str, state: str) -> None:
        body = {"asset": node.asset, "job": self.job, "receipt": receipt, "state": state}
        node.write(self.market.now, "finish", body)

    def log_receipt(self, node: Node, name: str, envelope: bytes, payload: dict[str, Any]) -> None:
        refs = (payload["asset"], payload["job"], payload["grant"])
        index = self.market.log(name, envelope, refs)
        self.entries[index] = "receipt"
        if payload["contributions"]:
            self.market.count_use(node, index)
        if payload["state"] == "completed":
            node.grants.append(payload["grant"])
        self.receipts.setdefault(name, payload)

    def release_payload(self) -> dict[str, Any]:
        result = digest_of("result", self.job)
        return {
            "checks": ["minimum_parties"],
            "contributions": [
                {"receipt": name, "reply": item["reply"], "round": item["round"]}
                for name, receipt in self.receipts.items()
                for item in receipt["contributions"]
            ],
            "decision": "automatic",
            "issued": self.market.now,
            "job": self.job,
            "receipts": list(self.receipts),
            "result": result,
        }

    def put_release(self) -> None:
        payload = self.release_payload()
        refs = (self.job, *payload["receipts"])
        name = self.put("release", payload, refs, self.market.operator.key)
        if not self.release:
            self.release = name
            if self.number % 10 == 0:
                self.market.results[self.job] = digest_of("result", self.job)
            if self.researcher is self.market.researchers[-1] and self.number % 10 == 3:
                self.market.canaries.append(self.nonce)

    def lines(self) -> list[Line]:
        return [
            Line(
                deal.id,
                deal.node.owner.id,
                deal.price,
                deal.price * FEE_PPM // 1_000_000,
                deal.price - deal.price * FEE_PPM // 1_000_000,
            )
            for deal in self.deals
        ]

    def settlement_payload(self) -> dict[str, Any]:
        lines = tuple(self.lines())
        researcher = self.payer()
        return {
            "issued": self.market.now,
            "job": self.job,
            "lines": [line.payload() for line in lines],
            "postings": [item.payload() for item in postings(researcher, lines)],
            "release": self.release,
            "researcher": researcher,
            "total_cents": sum(line.price_cents for line in lines),
        }

    def payer(self) -> str:
        return self.researcher.id

    def put_settlement(self, **odd: Any) -> None:
        payload = self.settlement_payload()
        refs = (self.job, self.release, *(line["agreement"] for line in payload["lines"]))
        self.put("settlement", payload, refs, self.market.operator.key, **odd)


class Departed(Life):
    """The last node leaves after its first answer; the others are asked anew, and complete."""

    left: Node | None = None

    def steps(self) -> Iterator[None]:
        self.left = self.deals[-1].node if len(self.deals) > 1 else None
        yield from self.begin()
        for deal in self.stayed():
            self.put_receipt(deal.node)
            yield
        self.put_release()
        yield
        self.put_settlement()
        if self.left is not None:
            yield
            self.put_receipt(self.left)

    def stayed(self) -> list[Deal]:
        return [deal for deal in self.deals if deal.node is not self.left]

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        ended = {"state": "failed", "reason": "cancelled"} if node is self.left else {}
        return super().receipt_payload(node) | ended

    def contributions(self, node: Node, rounds: int = 1) -> list[dict[str, Any]]:
        anew = self.left is not None and node is not self.left
        return super().contributions(node, rounds + 1 if anew else rounds)

    def release_payload(self) -> dict[str, Any]:
        payload = super().release_payload()
        last = max(item["round"] for item in payload["contributions"])
        kept = [item for item in payload["contributions"] if item["round"] == last]
        return payload | {"contributions": kept}

    def lines(self) -> list[Line]:
        used = {deal.id for deal in self.stayed()}
        return [line for line in super().lines() if line.agreement in used]


class Fruitless(Life):
    """The last node's receipt comes when the operator has given the job up, and revoked it."""

    seen: int | None = None

    def steps(self) -> Iterator[None]:
        yield from self.begin()
        *others, last = self.deals
        for deal in others:
            self.put_receipt(deal.node)
            yield
        self.seen = self.market.book.size
        self.revoke()
        yield
        self.put_receipt(last.node)

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        read = {} if self.seen is None else {"log_size": self.seen}
        return super().receipt_payload(node) | read


class Refused(Life):
    """The last node refuses; the others were never asked to compute."""

    def steps(self) -> Iterator[None]:
        self.put_job()
        yield
        for deal in self.deals[:-1]:
            self.put_grant(deal)
            yield
        self.put_receipt(self.deals[-1].node)

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        refusal = {"contributions": [], "reason": "revoked", "rows": 0, "state": "refused"}
        return super().receipt_payload(node) | refusal | {"grant": None}


class Insistent(Life):
    """The last node is asked too early, and once more when all is done; it refuses both times."""

    reason = ""

    def steps(self) -> Iterator[None]:
        node = self.deals[-1].node
        steps = super().steps()
        next(steps)
        self.refuse(node, "not_proven")
        yield
        yield from steps
        self.refuse(node, "grant_mismatch")

    def refuse(self, node: Node, reason: str) -> None:
        completed, self.reason = dict(self.receipts), reason
        self.put_receipt(node)
        self.receipts, self.reason = completed, ""

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        refusal = {"contributions": [], "reason": self.reason, "rows": 0, "state": "refused"}
        return super().receipt_payload(node) | (refusal if self.reason else {})


class Unproven(Refused):
    """A node refuses a job that is not in the log."""

    def steps(self) -> Iterator[None]:
        self.job, _ = self.market.sign("job", self.job_payload(), self.researcher.key)
        self.put_receipt(self.deals[-1].node)
        yield

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        return super().receipt_payload(node) | {"reason": "not_proven"}


class Failed(Life):
    """The first node fails after it has sent something; the others are told to stop."""

    reason = "task_error"

    def steps(self) -> Iterator[None]:
        yield from self.begin()
        for deal in self.deals:
            self.put_receipt(deal.node)
            yield

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        first = node is self.deals[0].node
        failure: dict[str, Any] = {"reason": self.reason if first else "cancelled"}
        failure |= {"contributions": self.contributions(node, 1 if first else 0)}
        return super().receipt_payload(node) | failure | {"state": "failed"}


class Cancelled(Failed):
    """The researcher gives up."""

    reason = "cancelled"


class NeverBegun(Cancelled):
    """The researcher gives up before any node begins; each says that it sent nothing."""

    def launch(self, node: Node) -> None:
        pass

    def contributions(self, _node: Node, _rounds: int = 1) -> list[dict[str, Any]]:
        return []


class Ungranted(Life):
    """No provider answers."""

    def steps(self) -> Iterator[None]:
        self.put_job()
        yield


OUTCOMES = [
    (Life, 78),
    (Departed, 3),
    (Fruitless, 1),
    (Insistent, 2),
    (Refused, 6),
    (Unproven, 2),
    (Failed, 4),
    (Cancelled, 1),
    (NeverBegun, 1),
    (Ungranted, 2),
]


def honest(market: Market, number: int) -> Life:
    """A job of an ordinary kind, with one to three nodes."""
    draw = market.random
    parties = draw.choices((1, 2, 3), (70, 20, 10))[0]
    researcher = draw.choice(market.researchers)
    nodes = draw.sample(market.nodes[:20], parties)
    kinds, weights = zip(*OUTCOMES, strict=True)
    life = draw.choices(kinds, weights)[0]
    return life(market, number, [market.deal(node, researcher) for node in nodes])
