"""Assets, offers and the public catalogue."""

from dataclasses import replace

import pytest

from ledger.rules import SKEW
from ledger.statements import Asset, Valuation
from tests.market import PRICE, Market


def test_the_catalogue_is_public_and_shows_the_data_card(market: Market):
    cards = market.must(market.get("/assets"), 200)
    assert [card["provider_name"] for card in cards] == [p.name for p in market.providers]
    card = cards[0]
    assert (card["rows"], card["missing"], card["uses"]) == (100, 4, 0)
    assert [column["name"] for column in card["columns"]] == ["age", "chol"]
    assert card["quality"]["not_assessed"] == ["accuracy"]
    assert card["offers"][0]["price_cents"] == PRICE
    assert card["offers"][0]["odrl"]["permission"][0]["action"] == "compute"
    assert market.must(market.get(f"/assets/{card['id']}"), 200) == card


def test_the_valuation_can_be_recomputed(market: Market):
    card = market.must(market.get("/assets"), 200)[0]
    value = card["valuation"]
    assert value["quality_ppm"] == card["quality"]["score_ppm"]
    assert value["value_cents"] == value["cost_cents"] * value["quality_ppm"] // 1_000_000
    assert value["formula"] == "value_cents = cost_cents × quality_ppm // 1000000"


def card_of(market: Market) -> Asset:
    return market.asset_statement(market.providers[0], name="second")


def test_a_second_asset_is_listed_and_the_same_again_changes_nothing(market: Market):
    body = market.sign(card_of(market))
    first = market.must(market.post("/assets", market.providers[0], body))
    before = market.counts()
    assert market.must(market.post("/assets", market.providers[0], body)) == first
    assert market.counts() == before


def wrong_assets(market: Market) -> dict[str, tuple[bytes, int, str]]:
    first, second = market.providers[:2]
    good = card_of(market)
    other_node = replace(good, measurement=market.asset_statement(second).measurement)
    wrong_value = replace(good, valuation=Valuation.of(50_001, 1_000_000))
    envelope = market.sign(good)
    return {
        "signed by another": (good.sign(second.key), 422, "signature_invalid"),
        "signed by two": (good.sign(first.key, second.key), 422, "signature_invalid"),
        "another's": (market.sign(market.asset_statement(second, name="x")), 403, "not_author"),
        "another node's measurement": (other_node.sign(first.key), 409, "measurement_invalid"),
        "valued at will": (wrong_value.sign(first.key), 409, "wrong_valuation"),
        "another kind": (market.sign(market.offer_statement(first)), 422, "wrong_kind"),
        "a changed byte": (envelope.replace(b"Y2", b"Y3", 1), 422, ""),
    }


@pytest.mark.parametrize(
    "which",
    [
        "signed by another",
        "signed by two",
        "another's",
        "another node's measurement",
        "valued at will",
        "another kind",
        "a changed byte",
    ],
)
def test_a_wrong_asset_is_refused_and_changes_nothing(market: Market, which: str):
    body, status, code = wrong_assets(market)[which]
    before = market.counts()
    answer = market.post("/assets", market.providers[0], body)
    assert answer.status_code == status, answer.text
    assert code in answer.json()["code"]
    assert market.counts() == before


def test_unsigned_statements_are_refused(market: Market):
    before = market.counts()
    unsigned = {"payload": "e30=", "payloadType": "application/vnd.rongshu.asset.v1+json"}
    for statement in ({}, unsigned, unsigned | {"signatures": []}):
        answer = market.post("/assets", market.providers[0], {"statement": statement})
        assert (answer.status_code, answer.json()["code"]) == (422, "statement_invalid")
    assert market.counts() == before


def test_nobody_offers_anothers_asset(market: Market):
    first, second = market.providers[:2]
    before = market.counts()
    stolen = market.offer_statement(first, asset=second.asset)
    answer = market.post("/offers", first, stolen)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_owner")
    assert market.post("/offers", second, market.offer_statement(first)).status_code == 403
    assert market.counts() == before
    market.must(market.post("/offers", first, market.offer_statement(first, price_cents=7)))


def test_a_clock_that_is_far_ahead_is_named_and_nothing_is_logged(market: Market):
    party, before = market.providers[0], market.counts()
    ahead = market.offer_statement(party, issued=market.clock() + SKEW + 60_000)
    answer = market.post("/offers", party, ahead)
    assert (answer.status_code, answer.json()["code"]) == (409, "backdated")
    assert "seconds later than the log's time; set the signer's clock right" in answer.text
    assert market.counts() == before
    market.must(market.post("/offers", party, replace(ahead, issued=market.clock() + SKEW)))


def test_offers_are_listed_by_asset_and_marked_when_withdrawn(market: Market):
    party = market.providers[0]
    assert len(market.must(market.get("/offers"), 200)) == 3
    listed = market.must(market.get(f"/offers?asset={party.asset}"), 200)
    assert [offer["id"] for offer in listed] == [party.offer]
    market.must(market.post("/revocations", party, market.revocation(party, party.offer)))
    marked = market.must(market.get(f"/offers?asset={party.asset}"), 200)
    assert listed[0]["revoked"] is None
    assert marked[0]["revoked"] is not None


def test_who_used_an_asset_is_for_its_provider_and_overseers(market: Market):
    job = market.released_job()
    first, second = market.providers[:2]
    path = f"/assets/{first.asset}/uses"
    for caller in (first, market.auditor, market.operator):
        (use,) = market.must(market.get(path, caller), 200)
        assert (use["job"], use["purpose"], use["state"]) == (job, "research", "completed")
        assert use["researcher_name"] == market.researcher.name
    for caller in (second, market.researcher):
        assert market.get(path, caller).status_code == 404
    assert market.must(market.get(f"/assets/{first.asset}"), 200)["uses"] == 1


def test_amounts_are_bounded(market: Market):
    first = market.providers[0]
    before = market.counts()
    for price in (-1, 1 << 53, 1.5, True, "7"):
        body = {
            "offer": first.offer,
            "terms": market.terms().payload(),
            "preparation": {},
            "price_cents": price,
        }
        answer = market.post("/negotiations", market.researcher, body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert market.counts() == before
