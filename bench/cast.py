"""Who takes part in the ledger's bench, and the dual-signed statements that they log.

Agreements are the statements of the bench: signed by two parties, about 1,200 bytes, resting on
four others, and as many of them as one likes keep every rule.
"""

import itertools
import multiprocessing
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ledger.encoding import sha256_text
from ledger.ids import statement_id
from ledger.keys import SigningKey
from ledger.statements import (
    Agreement,
    Asset,
    Column,
    Measurement,
    Offer,
    Participant,
    Quality,
    Statement,
    Valuation,
)
from ledger.terms import Terms

NOW = 1_767_225_600_000
YEAR = 365 * 24 * 3600 * 1000
CHUNK = 500


def _key(name: str) -> SigningKey:
    return SigningKey.from_seed(name, sha256_text(name.encode()).encode()[-32:])


OPERATOR, PROVIDER, NODE, RESEARCHER = map(
    _key, ("operator.example", "provider.example", "node.example", "researcher.example")
)
TERMS = Terms(
    tasks=("statistics", "logistic"),
    purposes=("research",),
    recipients=("*",),
    uses=3,
    until=NOW + YEAR,
    exact=True,
    minimum_parties=3,
)


@dataclass(frozen=True)
class Cast:
    """The statements that every agreement rests on, in log order, and their ids."""

    envelopes: tuple[bytes, ...]
    provider: str
    researcher: str
    asset: str
    offer: str

    @classmethod
    def enrol(cls) -> "Cast":
        """Sign everybody's enrolment, one asset and one offer."""
        made: list[bytes] = []

        def put(statement: Statement, key: SigningKey) -> str:
            made.append(statement.sign(key))
            return statement_id(statement.kind, made[-1])

        def enrolled(key: SigningKey, role: str) -> str:
            return put(Participant(key.name, (role,), key.verify_key.text, None, NOW), key)

        enrolled(OPERATOR, "operator")
        provider, researcher = enrolled(PROVIDER, "provider"), enrolled(RESEARCHER, "researcher")
        asset = put(_asset(provider), PROVIDER)
        offer = put(Offer(provider, asset, TERMS, 1_000, NOW), PROVIDER)
        return cls(tuple(made), provider, researcher, asset, offer)

    def agreement(self, number: int) -> bytes:
        """Sign one agreement, by both parties; each number gives another."""
        agreement = Agreement(
            provider=self.provider,
            researcher=self.researcher,
            asset=self.asset,
            offer=self.offer,
            terms=TERMS,
            preparation={"complete_rows": True},
            price_cents=1_000,
            fee_ppm=100_000,
            issued=NOW + number,
        )
        return agreement.sign(PROVIDER, RESEARCHER)


def _asset(provider: str) -> Asset:
    quality = Quality.of(
        completeness_ppm=980_000,
        duplicate_rows_ppm=0,
        consistency_ppm=1_000_000,
        not_assessed=("accuracy",),
    )
    columns = (Column("age", "integer", 0, 7), Column("chol", "number", 4, 10))
    measured = Measurement(100, columns, sha256_text(b"rows"), quality, NOW)
    return Asset(
        provider=provider,
        name="heart disease",
        description="Angiography patients",
        use_rights="CC BY 4.0",
        node_key=NODE.verify_key.text,
        measurement=measured.sign(NODE),
        valuation=Valuation.of(50_000, quality.score_ppm),
        issued=NOW,
    )


def agreements(cast: Cast, count: int) -> list[bytes]:
    """Sign many different agreements, on all cores."""
    starts = range(0, count, CHUNK)
    work: Iterable[tuple[Cast, int, int]] = (
        (cast, start, min(start + CHUNK, count)) for start in starts
    )
    if len(starts) < 4:
        return list(itertools.chain.from_iterable(map(_some, work)))
    with multiprocessing.get_context("spawn").Pool() as pool:
        return list(itertools.chain.from_iterable(pool.imap(_some, work)))


def _some(work: tuple[Cast, int, int]) -> list[bytes]:
    cast, start, stop = work
    sign: Callable[[int], bytes] = cast.agreement
    return [sign(number) for number in range(start, stop)]
