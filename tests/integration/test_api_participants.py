"""Enrolment, API keys and who the caller is."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlmodel import select

from ledger.errors import InvalidKeyError
from marketplace.app import create_app, preflight
from marketplace.errors import KeyMissingError
from marketplace.participants.access import hash_secret
from marketplace.participants.tables import ApiKey, Enrolment
from marketplace.settings import Settings
from tests.market import Market, Party


def code(market: Market, *roles: str) -> str:
    body = {"roles": list(roles)}
    return str(market.must(market.post("/enrolments", market.operator, body))["code"])


def newcomer(name: str = "new.example", *roles: str) -> Party:
    return Party(name, roles or ("provider",))


def enrol_body(market: Market, party: Party, text: str, envelope: bytes | None = None) -> dict:
    market.providers.append(party)
    signed = envelope or market.sign(market.participant(party))
    market.providers.remove(party)
    return {"code": text, "statement": json.loads(signed)}


def test_first_start_makes_keys_and_enrols_the_operator(market: Market):
    settings = market.settings
    for path in (settings.log_key, settings.operator_key, settings.operator_api_key):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o077 == 0
    assert settings.log_key.parent != settings.operator_key.parent
    me = market.must(market.get("/me", market.operator), 200)
    assert (me["roles"], me["scopes"]) == (["operator"], ["operator"])
    assert market.context.entry(me["participant"]).index == 0


def test_a_code_enrols_once(market: Market):
    text, party = code(market, "provider"), newcomer()
    found = market.must(market.post("/participants", None, enrol_body(market, party, text)))
    assert market.must(market.get("/me", found["api_key"]), 200)["scopes"] == ["node", "provider"]
    before = market.counts()
    again = market.post("/participants", None, enrol_body(market, newcomer("b.example"), text))
    assert (again.status_code, again.json()["code"]) == (403, "bad_code")
    assert market.counts() == before


def test_of_many_who_race_with_one_code_one_enrols(market: Market):
    text = code(market, "provider")
    bodies = [enrol_body(market, newcomer(f"racer{n}.example"), text) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: market.post("/participants", None, body), bodies))
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 7


def test_a_code_is_for_its_roles_and_survives_a_wrong_try(market: Market):
    text, party = code(market, "provider"), newcomer("both.example", "provider", "researcher")
    before = market.counts()
    wrong = market.post("/participants", None, enrol_body(market, party, text))
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_roles")
    assert market.counts() == before
    market.must(market.post("/participants", None, enrol_body(market, newcomer(), text)))


def test_a_code_ends_after_a_day(market: Market):
    text = code(market, "provider")
    market.clock.advance(24 * 3600 * 1000)
    late = market.post("/participants", None, enrol_body(market, newcomer(), text))
    assert (late.status_code, late.json()["code"]) == (403, "bad_code")


def test_a_statement_signed_by_another_key_does_not_enrol(market: Market):
    text, party = code(market, "provider"), newcomer()
    before = market.counts()
    forged = market.participant(party).sign(market.providers[0].key)
    answer = market.post("/participants", None, enrol_body(market, party, text, forged))
    assert (answer.status_code, answer.json()["code"]) == (422, "signature_invalid")
    assert market.counts() == before


def test_a_key_enrols_once(market: Market):
    text = code(market, "provider")
    body = {
        "code": text,
        "statement": json.loads(market.sign(market.participant(market.providers[0], name="twin"))),
    }
    before = market.counts()
    answer = market.post("/participants", None, body)
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate_key")
    assert market.counts() == before


def test_nobody_gets_a_code_for_an_operator(market: Market):
    answer = market.post("/enrolments", market.operator, {"roles": ["operator"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_only_hashes_of_secrets_are_stored(market: Market):
    text = code(market, "provider")
    database = b"".join(path.read_bytes() for path in market.settings.folder.glob("rongshu.db*"))
    secret = market.operator.api_key.rpartition("_")[2]
    assert text.encode() not in database
    assert secret.encode() not in database
    assert hash_secret(secret).encode() in database
    with market.context.reading() as session:
        assert session.get(Enrolment, hash_secret(text)) is not None
        assert len(session.exec(select(ApiKey)).all()) == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda _key: "",
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key.replace("rsk_", "RSK_"),
        lambda key: "rsk_" + "0" * 16 + key[20:],
        lambda key: key.upper(),
    ],
)
def test_a_changed_key_opens_nothing(market: Market, change: Callable[[str], str]):
    market.must(market.get("/me", market.researcher), 200)
    answer = market.get("/me", change(market.researcher.api_key))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_further_keys_have_no_more_scopes_and_end(market: Market):
    provider = market.providers[0]
    new = market.must(market.post("/keys", provider, {"scopes": ["node"]}))
    assert market.must(market.get("/me", new["api_key"]), 200)["scopes"] == ["node"]
    assert market.post("/keys", new["api_key"], {"scopes": ["provider"]}).status_code == 403
    assert market.post("/keys", provider, {"scopes": ["auditor"]}).status_code == 403
    path = f"/v1/keys/{new['public_id']}"
    other = market.http.delete(path, headers=market.headers(market.providers[1]))
    assert other.status_code == 404
    assert market.http.delete(path, headers=market.headers(provider)).status_code == 204
    assert market.get("/me", new["api_key"]).status_code == 401


def test_participants_are_listed_with_their_keys(market: Market):
    found = market.must(market.get("/participants", market.researcher), 200)
    assert found[0]["name"] == "Rongshu operator"
    assert len(found) == 6
    one = market.must(market.get(f"/participants/{found[1]['id']}", market.researcher), 200)
    assert one == found[1]
    assert one["fingerprint"].startswith("SHA256:")
    nobody = market.get("/participants/participant:" + "0" * 64, market.researcher)
    assert nobody.status_code == 404


@pytest.mark.parametrize("gone", ["log_key", "operator_key"])
def test_a_lost_key_is_never_replaced(populated_market: Market, tmp_path: Path, gone: str):
    stopped = populated_market.copy_to(tmp_path / "data")
    path = getattr(stopped.settings, gone)
    path.unlink()
    with pytest.raises(KeyMissingError, match=r"signing\.key"), stopped:
        pass
    with pytest.raises(KeyMissingError, match=r"signing\.key"):
        preflight(stopped.settings)
    assert not path.exists()


def test_a_key_that_others_can_read_is_refused(populated_market: Market, tmp_path: Path):
    stopped = populated_market.copy_to(tmp_path / "data")
    stopped.settings.operator_key.chmod(0o644)
    with pytest.raises(InvalidKeyError, match="chmod 600"), stopped:
        pass


def test_a_lost_api_key_of_the_operator_is_made_again(populated_market: Market, tmp_path: Path):
    stopped = populated_market.copy_to(tmp_path / "data")
    old = stopped.settings.operator_api_key.read_text().strip()
    stopped.settings.operator_api_key.unlink()
    with stopped as market:
        assert market.operator.api_key != old
        market.must(market.get("/me", market.operator), 200)


def test_building_the_app_touches_nothing(tmp_path: Path):
    create_app(Settings(folder=tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []
