"""What each kind of statement refuses on its own, before any log is asked."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger.errors import SignatureError, StatementError
from ledger.statements import (
    KINDS,
    Asset,
    Measurement,
    Quality,
    Settlement,
    Statement,
    Valuation,
    postings,
    quality_score,
    read,
)
from ledger.statements.asset import QUALITY_FORMULA
from tests.drafts import key_of
from tests.world import World

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_every_kind(tmp_path_factory.mktemp("world"), providers=3)


def first(world: World, kind: str) -> Statement:
    return next(item for item in world.statements.values() if item.kind == kind)


def put(**fields: Any) -> Change:
    return lambda payload: payload.update(fields)


def drop_first(field: str) -> Change:
    return lambda payload: payload[field].pop(0)


def inside(field: str, **fields: Any) -> Change:
    def change(payload: dict[str, Any]) -> None:
        target = payload[field]
        (target[0] if isinstance(target, list) else target).update(fields)

    return change


CONTRADICTIONS: list[tuple[str, Change, str]] = [
    ("participant", put(roles=["operator", "auditor"]), "the operator has no other role"),
    ("participant", put(roles=[]), "roles: is empty"),
    ("participant", put(roles=["auditor", "auditor"]), "names something twice"),
    ("participant", put(key="nonsense"), "Participant.key: a verifier key must read"),
    ("participant", lambda p: p.update(recovery_key=p["key"]), "equals the key it is meant"),
    ("asset", inside("valuation", value_cents=1), "valuation.value_cents: 1, the formula gives"),
    ("asset", inside("valuation", method="guess"), "'guess' is none of"),
    ("asset", inside("valuation", quality_ppm=1_000_001), "not between 0 and 1000000"),
    ("offer", inside("terms", minimum_parties=0), "0 is not positive"),
    ("offer", inside("terms", tasks=["a", "a"]), "names something twice"),
    ("offer", put(price_cents=-1), "-1 is negative"),
    ("agreement", lambda p: p.update(researcher=p["provider"]), "nobody agrees with itself"),
    ("agreement", put(preparation={"split": 0.66}), "no floating-point number"),
    ("job", drop_first("agreements"), "one for each asset, in the same order"),
    ("job", put(assets=[], agreements=[]), "assets: is empty"),
    ("job", lambda p: p["assets"].__setitem__(1, p["assets"][0]), "names something twice"),
    ("grant", drop_first("cohort"), "cohort: lacks the granted asset"),
    ("grant", put(minimum_parties=4), "more than the cohort has"),
    ("grant", put(rounds=0), "0 is not positive"),
    ("receipt", put(reason="internal"), "exactly a receipt that is not completed has one"),
    ("receipt", put(state="failed"), "exactly a receipt that is not completed has one"),
    ("receipt", put(state="refused", reason="internal"), "is no reason to refuse"),
    ("receipt", put(state="failed", reason="revoked"), "is no failure"),
    ("receipt", put(state="refused", reason="because"), "'because' is none of"),
    ("receipt", put(state="refused", reason="revoked"), "a refusal sends none"),
    ("receipt", put(grant=None), "a completed job has a grant"),
    ("receipt", put(contributions=[]), "a completed job has a grant and contributions"),
    ("receipt", inside("contributions", round=2), "rounds are not in ascending order"),
    ("release", drop_first("receipts"), "contributions: not those of the listed receipts"),
    ("release", put(checks=[]), "checks: is empty"),
    ("release", put(decision="guessed"), "is none of automatic, reviewed"),
    ("settlement", put(total_cents=1), "total_cents: is not the sum of the lines"),
    ("settlement", inside("lines", fee_cents=0), "fee and share do not add up to the price"),
    ("revocation", lambda p: p.update(target="epoch:" + "0" * 64), "names a epoch, expected"),
    (
        "rotation",
        lambda p: p.update(recovery_key=p["new_key"]),
        "only a recovery key names another",
    ),
    (
        "rotation",
        lambda p: p.update(by="recovery", recovery_key=p["new_key"]),
        "equals the key it is meant to recover",
    ),
    ("schedule", put(epoch_entries=0), "0 is not positive"),
    ("epoch", put(start=8, stop=8), "not after start"),
    ("epoch", inside("journal", last=-1), "-1 is negative"),
    ("epoch", inside("journal", first=9, last=7), "before the line that it begins with"),
    ("epoch", inside("counts", launched=99), "more than the journal has lines"),
    ("use_index", put(start=8, stop=8), "not after start"),
    ("shred", put(erased_kind="participant"), "is none of agreement"),
    ("shred", put(entries=[2, 1]), "not in ascending order"),
]


@pytest.mark.parametrize(("kind", "change", "message"), CONTRADICTIONS)
def test_a_contradiction_is_refused_and_named(
    world: World, kind: str, change: Change, message: str
):
    payload = copy.deepcopy(first(world, kind).payload())
    KINDS[kind].from_payload(payload)
    change(payload)
    with pytest.raises(StatementError) as caught:
        KINDS[kind].from_payload(payload)
    assert message in str(caught.value)
    # In an envelope it is refused too, before any signature is looked at.
    with pytest.raises(StatementError):
        read(world.insecure_sign(KINDS[kind], payload, world.operator.key))


def test_a_statement_that_contradicts_itself_is_not_signed(world: World):
    statement = first(world, "grant")
    with pytest.raises(StatementError):
        replace(statement, rounds=0).sign(world.providers[0].key)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", KINDS)
def test_an_envelope_of_each_kind_is_read_back(world: World, kind: str):
    statement = first(world, kind)
    unverified = read(world.sign(statement))
    assert unverified.statement == statement
    assert unverified.id.startswith(f"{kind}:")
    with pytest.raises(SignatureError):
        unverified.verify(key_of("stranger.example").verify_key)


def test_an_unknown_kind_is_refused(world: World):
    envelope = world.sign(first(world, "offer"))
    for kind in ("offer.v2", "measurement.v1", "wish.v1"):
        with pytest.raises(StatementError, match="unknown kind of statement"):
            read(envelope.replace(b"offer.v1", kind.encode()))


def test_one_kind_does_not_pass_for_another(world: World):
    # An offer's payload under the type of an agreement: fields differ.
    payload = first(world, "offer").payload()
    with pytest.raises(StatementError, match="Agreement: "):
        read(world.insecure_sign(KINDS["agreement"], payload, world.operator.key))


# The measurement inside an asset.


def test_the_measurement_is_the_nodes(world: World):
    asset = first(world, "asset")
    assert isinstance(asset, Asset)
    assert asset.measured() == Measurement.from_payload(asset.measured().payload())
    node = world.node_key(world.providers[0])
    for changed in (
        {**asset.measurement, "payloadType": "application/vnd.rongshu.asset.v1+json"},
        {**asset.measurement, "signatures": []},
        {},
    ):
        with pytest.raises(StatementError):
            world.asset(world.providers[0], measurement=changed).measured()
    other = world.measurement(world.providers[0]).sign(world.operator.key)
    with pytest.raises(SignatureError):
        world.asset(world.providers[0], measurement=other).measured()
    own = world.measurement(world.providers[0], rows=7).sign(node)
    assert world.asset(world.providers[0], measurement=own).measured().rows == 7


def test_a_measurement_that_cannot_be_is_not_signed(world: World):
    node = world.node_key(world.providers[0])
    good = world.measurement(world.providers[0])
    for changed, message in (
        ({"columns": ()}, "is empty"),
        ({"columns": good.columns[:1] * 2}, "names something twice"),
        ({"rows": 3}, "lacks more cells than rows"),
    ):
        with pytest.raises(StatementError, match=message):
            world.measurement(world.providers[0], **changed).sign(node)  # type: ignore[arg-type]


def test_quality_and_value_are_recomputed():
    quality = Quality.of(
        completeness_ppm=900_000, duplicate_rows_ppm=100_000, consistency_ppm=1, not_assessed=()
    )
    assert quality.score_ppm == quality_score(900_000, 100_000, 1) == 0
    assert quality_score(1_000_000, 0, 1_000_000) == 1_000_000
    assert quality_score(999_999, 1, 999_999) == 999_997
    assert quality.formula == QUALITY_FORMULA
    with pytest.raises(StatementError, match="the formula gives 0"):
        Quality.from_payload({**quality.payload(), "score_ppm": 1})
    assert Valuation.of(1_001, 999_999).value_cents == 1_000


def test_postings_balance_whatever_the_lines(world: World):
    bill = first(world, "settlement")
    assert isinstance(bill, Settlement)
    assert sum(posting.amount_cents for posting in bill.postings) == 0
    # Two agreements of one provider give one posting.
    twice = postings("participant:x", bill.lines[:1] * 2)
    assert [posting.amount_cents for posting in twice] == [-2_000, 1_800, 200]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_statement_rests_on_is_what_it_names(world: World, kind: str):
    statement = first(world, kind)
    named = [reference for reference in statement.references() if reference is not None]
    assert set(named) <= set(world.statements)
    assert statement.authors()
    assert all(party == "*" or ":" in party for party in statement.parties())
