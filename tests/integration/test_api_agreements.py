"""Negotiation, move by move, over the API."""

import random
from typing import Any

import pytest

from ledger.statements.envelope import countersign, from_json
from ledger.terms import Terms
from tests.market import PREPARATION, PRICE, Market, Party


def proposal(market: Market, price: int = 500) -> dict:
    return {
        "terms": market.terms(uses=1).payload(),
        "preparation": PREPARATION,
        "price_cents": price,
    }


def test_the_long_way_to_an_agreement(market: Market):
    provider, researcher = market.providers[0], market.researcher
    path = f"/negotiations/{market.negotiate(provider)}"
    steps = []
    for move, caller, body in (
        ("offer", provider, proposal(market, 900)),
        ("request", researcher, proposal(market, 500)),
        ("offer", provider, proposal(market, 700)),
        ("accept", researcher, {}),
    ):
        steps.append(market.must(market.post(f"{path}/{move}", caller, body), 200)["state"])
    assert steps == ["OFFERED", "REQUESTED", "OFFERED", "ACCEPTED"]
    statement = market.agreement_statement(provider, terms=market.terms(uses=1), price_cents=700)
    signed = statement.sign(provider.key)
    agreed = market.must(market.post(f"{path}/agreement", provider, signed), 200)
    assert agreed["state"] == "AGREED"
    assert agreed["proposal"]["payload"]
    both = countersign(signed, researcher.key)
    done = market.must(market.post(f"{path}/verification", researcher, both), 200)
    assert done["state"] == "FINALIZED"
    assert market.context.entry(done["agreement"]).index == done["index"]
    view = market.must(market.get(f"/agreements/{done['agreement']}", provider), 200)
    assert (view["price_cents"], view["uses_left"], view["uses_spent"]) == (700, 1, 0)


def test_every_other_move_is_refused_and_changes_nothing(market: Market):
    provider, researcher = market.providers[0], market.researcher
    path = f"/negotiations/{market.negotiate(provider)}"
    for move, caller, body, status in (
        ("accept", researcher, {}, 409),
        ("request", researcher, proposal(market), 409),
        ("finalize", provider, {}, 409),
        ("request", provider, proposal(market), 403),
        ("offer", researcher, proposal(market), 403),
        ("accept", provider, {}, 403),
    ):
        before = market.must(market.get(path, provider), 200)
        answer = market.post(f"{path}/{move}", caller, body)
        assert answer.status_code == status, (move, answer.text)
        assert market.must(market.get(path, provider), 200) == before
    market.must(market.post(f"{path}/terminate", provider, {"reason": "no"}), 200)
    for move, caller, body in (
        ("offer", provider, proposal(market)),
        ("terminate", researcher, {"reason": "again"}),
    ):
        answer = market.post(f"{path}/{move}", caller, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"price_cents": PRICE + 1}, "not_negotiated"),
        ({"preparation": {"complete_rows": False}}, "not_negotiated"),
        ({"terms": "uses"}, "not_negotiated"),
        ({"researcher": "auditor"}, "not_negotiated"),
        ({"asset": "other"}, "not_negotiated"),
    ],
)
def test_only_what_was_negotiated_is_agreed(market: Market, changes: dict, code: str):
    provider = market.providers[0]
    special = {
        "uses": market.terms(uses=99),
        "auditor": market.auditor.id,
        "other": market.providers[1].asset,
    }
    changes = {
        name: special.get(value, value) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    path = f"/negotiations/{market.negotiate(provider)}"
    before = market.must(market.get(path, provider), 200)
    signed = market.agreement_statement(provider, **changes).sign(provider.key)
    answer = market.post(f"{path}/agreement", provider, signed)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert market.must(market.get(path, provider), 200) == before
    good = market.agreement_statement(provider).sign(provider.key)
    market.must(market.post(f"{path}/agreement", provider, good), 200)


def test_signatures_come_from_the_right_sides(market: Market):
    provider, researcher = market.providers[0], market.researcher
    path = f"/negotiations/{market.negotiate(provider)}"
    statement = market.agreement_statement(provider)
    for key in (researcher.key, market.providers[1].key):
        answer = market.post(f"{path}/agreement", provider, statement.sign(key))
        assert (answer.status_code, answer.json()["code"]) == (422, "signature_invalid")
    signed = statement.sign(provider.key)
    market.must(market.post(f"{path}/agreement", provider, signed), 200)
    before = market.counts()
    for wrong in (signed, countersign(signed, market.auditor.key), statement.sign(researcher.key)):
        answer = market.post(f"{path}/verification", researcher, wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "signature_invalid")
    other = market.sign(market.agreement_statement(provider, price_cents=1))
    answer = market.post(f"{path}/verification", researcher, other)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_same")
    assert market.counts() == before
    both = countersign(signed, researcher.key)
    assert market.post(f"{path}/verification", provider, both).status_code == 403
    market.must(market.post(f"{path}/verification", researcher, both), 200)


def test_strangers_see_neither_negotiations_nor_agreements(market: Market):
    provider, stranger = market.providers[:2]
    negotiation = market.negotiate(provider)
    assert market.get(f"/negotiations/{negotiation}", stranger).status_code == 404
    assert market.get(f"/agreements/{provider.agreement}", stranger).status_code == 404
    path = f"/negotiations/{negotiation}"
    assert market.post(f"{path}/offer", stranger, proposal(market)).status_code == 404
    assert market.post(f"{path}/terminate", stranger, {"reason": "x"}).status_code == 404
    assert len(market.must(market.get("/agreements", stranger), 200)) == 1
    assert len(market.must(market.get("/agreements", market.researcher), 200)) == 3


def test_a_withdrawn_offer_is_not_negotiated_and_not_agreed(market: Market):
    provider, researcher = market.providers[0], market.researcher
    path = f"/negotiations/{market.negotiate(provider)}"
    signed = market.agreement_statement(provider).sign(provider.key)
    market.must(market.post(f"{path}/agreement", provider, signed), 200)
    market.must(market.post("/revocations", provider, market.revocation(provider, provider.offer)))
    answer = market.post(f"{path}/verification", researcher, countersign(signed, researcher.key))
    assert (answer.status_code, answer.json()["code"]) == (409, "revoked")
    body = proposal(market) | {"offer": provider.offer}
    answer = market.post("/negotiations", researcher, body)
    assert (answer.status_code, answer.json()["code"]) == (409, "revoked")


@pytest.mark.parametrize(
    "changes",
    [
        {"terms": {"tasks": ["statistics"]}},
        {"terms": "terms"},
        {"preparation": {"drop": "age"}},
        {"preparation": {"one_hot": {"cp": []}, "typo": 1}},
        {"price_cents": None},
        {"surplus": 1},
        {"offer": "offer:" + "0" * 64},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(market: Market, changes: dict):
    body = proposal(market) | {"offer": market.providers[0].offer} | changes
    before = market.counts()
    answer = market.post("/negotiations", market.researcher, body)
    assert answer.status_code in (404, 422), answer.text
    assert market.counts() == before


DATASPACE_PROTOCOL = {
    "REQUESTED": {"OFFERED", "AGREED", "TERMINATED"},
    "OFFERED": {"REQUESTED", "ACCEPTED", "TERMINATED"},
    "ACCEPTED": {"AGREED", "TERMINATED"},
    "AGREED": {"VERIFIED", "FINALIZED", "TERMINATED"},  # the service finalizes what is verified
    "FINALIZED": set(),
    "TERMINATED": set(),
}


def attempt(market: Market, path: str, view: dict, move: str, caller: Party) -> int:
    """Try a move with everything right but, perhaps, the moment and the side."""
    statement = market.agreement_statement(
        market.providers[0],
        terms=Terms.from_payload(view["terms"]),
        price_cents=view["price_cents"],
    )
    body: Any = {}
    if move == "agreement":
        body = statement.sign(market.providers[0].key)
    elif move == "verification":
        proposed = view["proposal"]
        signed = from_json(proposed) if proposed else statement.sign(market.providers[0].key)
        body = countersign(signed, market.researcher.key)
    elif move in ("offer", "request"):
        body = proposal(market, market.nonce)
    elif move == "terminate":
        body = {"reason": "enough"}
    return market.post(f"{path}/{move}", caller, body).status_code


@pytest.mark.parametrize("seed", range(6))
def test_no_walk_leaves_the_dataspace_protocol(market: Market, seed: int):
    randomness, provider = random.Random(seed), market.providers[0]
    moves = ("offer", "request", "accept", "agreement", "verification", "finalize", "terminate")
    weights = (4, 4, 4, 4, 4, 2, 1)
    path = f"/negotiations/{market.negotiate(provider)}"
    view = market.must(market.get(path, provider), 200)
    for _ in range(30):
        (move,) = randomness.choices(moves, weights)
        caller = randomness.choice([provider, market.researcher, market.providers[1]])
        status = attempt(market, path, view, move, caller)
        after = market.must(market.get(path, provider), 200)
        if status == 200:
            assert after["state"] in DATASPACE_PROTOCOL[view["state"]]
            assert caller is not market.providers[1]
        else:
            assert status in (403, 404, 409, 422)
            assert after == view
        view = after
    assert (view["agreement"] is not None) == (view["state"] == "FINALIZED")
