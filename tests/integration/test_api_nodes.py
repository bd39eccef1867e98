"""Nodes at the service: codes, enrolment, signs of life; each refusal changes one thing."""

from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import Request, Response
from sqlmodel import select

from federated.enrolment import NodeEnrolment, code_digest
from federated.errors import SuperLinkError
from federated.fleet_key import FleetKey
from federated.presence import LOST_SECONDS, Heartbeat, Presence
from ledger.encoding import parse
from ledger.keys import SigningKey
from marketplace.fleet import service
from marketplace.fleet.proxy import REPLY
from marketplace.fleet.tables import NodeCode, NodeSeat
from tests.fake_link import FakeLink
from tests.market import Market, Party

BOOT, LATER = "0" * 32, "1" * 32
HOUR = 3_600_000


@dataclass
class Fleet:
    """A market with a SuperLink, and what nodes say to it."""

    market: Market
    link: FakeLink
    now: float = 0.0

    def code(self, party: Party, **rest: Any) -> str:
        made = self.market.must(self.market.post(f"/assets/{party.asset}/codes", party, rest))
        return str(made["code"])

    def enrol(
        self,
        party: Party,
        code: str,
        key: bytes,
        *,
        asset: str = "",
        signed: NodeEnrolment | None = None,
        signer: SigningKey | None = None,
    ) -> httpx.Response:
        asset = asset or party.asset
        statement = signed or NodeEnrolment(asset, code_digest(code), key)
        envelope = parse(statement.sign(signer or party.node_key))
        body = {"asset": asset, "code": code, "signed": envelope}
        return self.market.post("/nodes", None, body)

    def beat(
        self,
        party: Party,
        sequence: int = 1,
        *,
        boot: str = BOOT,
        signer: SigningKey | None = None,
        caller: Party | str | None = None,
    ) -> httpx.Response:
        beat = Heartbeat(party.asset, boot, sequence, self.market.clock())
        signed = parse(beat.sign(signer or party.node_key))
        body = {"asset": party.asset, "signed": signed}
        return self.market.post("/nodes/heartbeats", caller or party, body)

    def nodes(self, caller: Party | str) -> dict[str, dict[str, Any]]:
        found = self.market.must(self.market.get("/nodes", caller), 200)
        return {node["asset"]: node for node in found}


@pytest.fixture(name="fleet")
def _fleet(market: Market) -> Fleet:
    fleet = Fleet(market, FakeLink())
    market.app.state.link = fleet.link
    market.app.state.presence = Presence(lambda: fleet.now)
    return fleet


@pytest.fixture(name="key")
def _key() -> bytes:
    return FleetKey.generate().public


def refused(fleet: Fleet, answer: Callable[[], httpx.Response], status: int, code: str) -> None:
    """Expect a refusal that changes no row and lets no key in."""
    before, known = fleet.market.counts(), dict(fleet.link.known)
    found = answer()
    assert (found.status_code, found.json()["code"]) == (status, code), found.text
    assert fleet.market.counts() == before
    assert fleet.link.known == known


# --- enrolling


def test_a_code_and_a_signature_give_a_node_its_place(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    code = fleet.code(party)
    seat = fleet.market.must(fleet.enrol(party, code, key))
    assert seat == {"asset": party.asset, "node_id": str(fleet.link.known[key])}
    shown = fleet.nodes(party)[party.asset]
    assert (shown["enrolled"], shown["fleet_key"]) == (True, key.hex())
    with fleet.market.context.reading() as session:
        assert service.seats(session, [party.asset]) == {party.asset: fleet.link.known[key]}
        (row,) = session.exec(select(NodeCode)).all()
        # Whoever reads the database learns no code.
        assert row.code_digest == code_digest(code)
        assert row.used is not None


def test_an_unknown_code_is_refused(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    fleet.code(party)
    refused(fleet, lambda: fleet.enrol(party, "rsn_" + "0" * 64, key), 403, "bad_code")


def test_a_used_code_is_refused_also_to_the_same_node(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    code = fleet.code(party)
    fleet.market.must(fleet.enrol(party, code, key))
    refused(fleet, lambda: fleet.enrol(party, code, key), 403, "bad_code")
    other = FleetKey.generate().public
    refused(fleet, lambda: fleet.enrol(party, code, other), 403, "bad_code")


def test_a_code_ends(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    code = fleet.code(party)
    fleet.market.clock.advance(fleet.market.settings.enrolment_hours * HOUR)
    refused(fleet, lambda: fleet.enrol(party, code, key), 403, "bad_code")
    # A moment before, it would have been taken.
    fleet.market.clock.advance(-2000)
    fleet.market.must(fleet.enrol(party, code, key))


def test_another_assets_code_is_refused(fleet: Fleet, key: bytes):
    first, second, _ = fleet.market.providers
    code = fleet.code(first)
    refused(fleet, lambda: fleet.enrol(second, code, key), 403, "bad_code")


def test_a_stolen_code_puts_no_other_node_in_its_place(fleet: Fleet, key: bytes):
    party, thief, _ = fleet.market.providers
    code = fleet.code(party)

    def steal() -> httpx.Response:
        return fleet.enrol(party, code, key, signer=thief.node_key)

    refused(fleet, steal, 422, "not_the_node")
    # Nor does the provider's own key sign for its node.
    refused(fleet, lambda: fleet.enrol(party, code, key, signer=party.key), 422, "not_the_node")


def test_a_signature_over_another_code_or_key_is_refused(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    code, other = fleet.code(party), fleet.code(party)
    signed = NodeEnrolment(party.asset, code_digest(other), key)
    refused(fleet, lambda: fleet.enrol(party, code, key, signed=signed), 422, "not_the_node")
    fleet.market.must(fleet.enrol(party, code, key))


def test_a_second_node_with_the_same_key_is_refused(fleet: Fleet, key: bytes):
    first, second, _ = fleet.market.providers
    fleet.market.must(fleet.enrol(first, fleet.code(first), key))
    code = fleet.code(second)
    refused(fleet, lambda: fleet.enrol(second, code, key), 409, "duplicate_key")
    fleet.market.must(fleet.enrol(second, code, FleetKey.generate().public))


def test_an_asset_has_one_node(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    code, spare = fleet.code(party), fleet.code(party)
    fleet.market.must(fleet.enrol(party, code, key))
    other = FleetKey.generate().public
    refused(fleet, lambda: fleet.enrol(party, spare, other), 403, "bad_code")
    again = f"/assets/{party.asset}/codes"
    refused(fleet, lambda: fleet.market.post(again, party, {}), 409, "enrolled")


def test_a_node_that_lost_its_key_takes_its_own_place_with_another(fleet: Fleet, key: bytes):
    party, other, _ = fleet.market.providers
    fleet.market.must(fleet.enrol(party, fleet.code(party), key))
    before = fleet.link.known[key]
    code, fresh = fleet.code(party, again=True), FleetKey.generate().public
    # Still signed by the node, still for this node alone, still with a key that nobody has.
    refused(fleet, lambda: fleet.enrol(party, code, fresh, signer=party.key), 422, "not_the_node")
    refused(fleet, lambda: fleet.enrol(other, code, fresh), 403, "bad_code")
    refused(fleet, lambda: fleet.enrol(party, code, key), 409, "duplicate_key")
    seat = fleet.market.must(fleet.enrol(party, code, fresh))
    # The key that it had before is let in no more.
    assert set(fleet.link.known) == {fresh}
    assert seat["node_id"] == str(fleet.link.known[fresh]) != str(before)
    assert fleet.nodes(party)[party.asset]["fleet_key"] == fresh.hex()
    with fleet.market.context.reading() as session:
        assert service.seats(session, [party.asset]) == {party.asset: int(seat["node_id"])}
    refused(fleet, lambda: fleet.enrol(party, code, FleetKey.generate().public), 403, "bad_code")


def test_a_crash_before_the_new_place_is_stored_costs_nothing(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    fleet.market.must(fleet.enrol(party, fleet.code(party), key))
    code, fresh = fleet.code(party, again=True), FleetKey.generate().public
    number = fleet.link.register(fresh)
    fleet.link.unregister(fleet.link.known[key])
    assert fleet.market.must(fleet.enrol(party, code, fresh))["node_id"] == str(number)


def test_what_is_no_key_uses_no_code_up(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    code = fleet.code(party)
    refused(fleet, lambda: fleet.enrol(party, code, b"no key"), 422, "not_the_node")
    fleet.market.must(fleet.enrol(party, code, key))


def test_a_superlink_that_does_not_start_uses_no_code_up(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    code = fleet.code(party)
    fleet.link.away = True
    refused(fleet, lambda: fleet.enrol(party, code, key), 503, "no_superlink")
    fleet.link.away = False
    fleet.market.must(fleet.enrol(party, code, key))


def test_of_two_that_race_with_one_code_one_is_let_in(fleet: Fleet):
    party = fleet.market.providers[0]
    code = fleet.code(party)
    keys = [FleetKey.generate().public for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda key: fleet.enrol(party, code, key), keys))
    assert sum(answer.is_success for answer in answers) == 1
    (winner,) = [key for key, answer in zip(keys, answers, strict=True) if answer.is_success]
    assert fleet.nodes(party)[party.asset]["fleet_key"] == winner.hex()


def test_of_two_that_race_with_one_key_one_is_let_in(fleet: Fleet, key: bytes):
    """Guards: the loser's enrolment stood on a check made before the winner's was stored."""
    first, second, _ = fleet.market.providers
    codes = {party.asset: fleet.code(party) for party in (first, second)}

    def meanwhile() -> None:
        fleet.link.during = lambda: None
        fleet.market.must(fleet.enrol(second, codes[second.asset], key))

    fleet.link.during = meanwhile
    answer = fleet.enrol(first, codes[first.asset], key)
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate_key")
    assert [node["enrolled"] for node in fleet.nodes(fleet.market.operator).values()].count(
        True
    ) == 1
    # Its code is not used up.
    fleet.market.must(fleet.enrol(first, codes[first.asset], FleetKey.generate().public))


def test_a_crash_between_registering_and_storing_costs_nothing(fleet: Fleet, key: bytes):
    """Guards: the key was known to the SuperLink and could never be enrolled again."""
    party = fleet.market.providers[0]
    code = fleet.code(party)
    number = fleet.link.register(key)
    seat = fleet.market.must(fleet.enrol(party, code, key))
    assert seat["node_id"] == str(number)


def test_no_code_for_what_is_not_ones_own(fleet: Fleet):
    first, second, _ = fleet.market.providers
    path = f"/assets/{first.asset}/codes"
    refused(fleet, lambda: fleet.market.post(path, second, {}), 404, "not_found")
    for caller in (fleet.market.researcher, fleet.market.auditor, fleet.market.operator):
        refused(fleet, lambda: fleet.market.post(path, caller, {}), 403, "forbidden")  # noqa: B023


def test_no_code_for_a_revoked_asset(fleet: Fleet):
    party = fleet.market.providers[0]
    fleet.market.must(
        fleet.market.post("/revocations", party, fleet.market.revocation(party, party.asset))
    )
    path = f"/assets/{party.asset}/codes"
    refused(fleet, lambda: fleet.market.post(path, party, {}), 409, "revoked")
    assert party.asset not in fleet.nodes(party)


def test_where_nodes_are_embedded_none_enrols(market: Market, key: bytes):
    party = market.providers[0]
    fleet = Fleet(market, FakeLink())
    answer = fleet.enrol(party, fleet.code(party), key)
    assert (answer.status_code, answer.json()["code"]) == (409, "embedded")
    assert market.post("/fleet/pull-messages", None, {}).status_code == 404


# --- long replies


@dataclass
class Passage:
    """A way to a SuperLink that counts what it is given."""

    lengths: list[int] = field(default_factory=list)

    async def pass_on(self, _name: str, request: Request) -> Response:
        self.lengths.append(len(await request.body()))
        return Response()


def pushed(fleet: Fleet, named: bytes, length: int, *, announced: bool = True) -> httpx.Response:
    """What becomes of a reply that says it is of the node with this key."""
    headers = {"flwr-public-key": b64encode(named).decode()}
    url = f"http://market/v1/fleet/{REPLY}"
    request = httpx.Request("POST", url, headers=headers, content=bytes(length))
    if not announced:
        del request.headers["content-length"]
    return fleet.market.http.send(request)


def test_a_long_reply_is_read_for_the_key_of_a_node_alone(fleet: Fleet, key: bytes):
    party, passage = fleet.market.providers[0], Passage()
    fleet.market.app.state.proxy = passage
    fleet.market.must(fleet.enrol(party, fleet.code(party), key))
    usual = fleet.market.settings.max_body_bytes
    for stranger in (FleetKey.generate().public, b"", b"\0"):
        refused(fleet, lambda: pushed(fleet, stranger, usual + 1), 403, "unknown_node")  # noqa: B023
        refused(fleet, lambda: pushed(fleet, stranger, 9, announced=False), 403, "unknown_node")  # noqa: B023
        assert passage.lengths == []
    assert pushed(fleet, b"", usual).status_code == 200
    assert pushed(fleet, key, usual + 1).status_code == 200
    assert pushed(fleet, key, 9, announced=False).status_code == 200
    assert passage.lengths == [usual, usual + 1, 9]
    most = fleet.market.settings.max_reply_bytes
    assert pushed(fleet, key, most + 1).status_code == 413
    assert passage.lengths[3:] == []


# --- the SuperLink forgets


def test_a_superlink_that_lost_its_file_is_told_again_who_may_connect(fleet: Fleet, key: bytes):
    first, second, _ = fleet.market.providers
    fleet.market.must(fleet.enrol(first, fleet.code(first), key))
    kept = FleetKey.generate().public
    fleet.market.must(fleet.enrol(second, fleet.code(second), kept))
    before = dict(fleet.link.known)
    del fleet.link.known[key]
    service.remind(fleet.market.context, fleet.link)  # type: ignore[arg-type]
    assert fleet.link.known[kept] == before[kept]
    assert fleet.link.known[key] != before[key]
    with fleet.market.context.reading() as session:
        seats = service.seats(session, [first.asset, second.asset])
    assert seats == {first.asset: fleet.link.known[key], second.asset: before[kept]}


def test_a_crash_before_the_new_place_is_stored_shuts_out_nobody_else(fleet: Fleet, key: bytes):
    """Guards: one key that the SuperLink had forgotten for good kept it from starting again."""
    party, other, _ = fleet.market.providers
    fleet.market.must(fleet.enrol(party, fleet.code(party), key))
    kept = FleetKey.generate().public
    fleet.market.must(fleet.enrol(other, fleet.code(other), kept))
    code, fresh = fleet.code(party, again=True), FleetKey.generate().public
    fleet.link.register(fresh)
    fleet.link.unregister(fleet.link.known[key])
    del fleet.link.known[kept]
    service.remind(fleet.market.context, fleet.link)  # type: ignore[arg-type]
    assert set(fleet.link.known) == {kept, fresh}
    # The code was not used up: it leads to the place.
    fleet.market.must(fleet.enrol(party, code, fresh))
    service.remind(fleet.market.context, fleet.link)  # type: ignore[arg-type]
    # One that does not answer is no such key: then nothing starts.
    fleet.link.away = True
    del fleet.link.known[kept]
    with pytest.raises(SuperLinkError):
        service.remind(fleet.market.context, fleet.link)  # type: ignore[arg-type]


def test_a_superlink_is_needed_once_a_node_has_enrolled(fleet: Fleet, key: bytes):
    party = fleet.market.providers[0]
    assert not service.has_nodes(fleet.market.context)
    fleet.market.must(fleet.enrol(party, fleet.code(party), key))
    assert service.has_nodes(fleet.market.context)


# --- who sees which nodes


def test_a_provider_sees_its_own_nodes_and_overseers_all(fleet: Fleet, key: bytes):
    market = fleet.market
    first = market.providers[0]
    market.must(fleet.enrol(first, fleet.code(first), key))
    every = {party.asset for party in market.providers}
    for party in market.providers:
        assert set(fleet.nodes(party)) == {party.asset}
    for overseer in (market.operator, market.auditor):
        found = fleet.nodes(overseer)
        assert set(found) == every
        assert [node["enrolled"] for node in found.values()].count(True) == 1
    assert fleet.nodes(market.researcher) == {}
    assert market.get("/nodes").status_code == 401


# --- signs of life


def state(fleet: Fleet, party: Party) -> str:
    return str(fleet.nodes(party)[party.asset]["state"])


def test_a_node_that_beats_is_alive_and_then_lost(fleet: Fleet):
    party, other, _ = fleet.market.providers
    assert state(fleet, party) == "never"
    assert fleet.beat(party).status_code == 204
    assert (state(fleet, party), state(fleet, other)) == ("alive", "never")
    fleet.now += LOST_SECONDS
    assert state(fleet, party) == "lost"
    assert fleet.beat(party, 2).status_code == 204
    assert state(fleet, party) == "alive"


def test_a_heartbeat_changes_no_row(fleet: Fleet):
    before = fleet.market.counts()
    assert fleet.beat(fleet.market.providers[0]).status_code == 204
    assert fleet.market.counts() == before


def test_a_heartbeat_signed_by_another_node_is_refused(fleet: Fleet):
    party, other, _ = fleet.market.providers

    def beat() -> httpx.Response:
        return fleet.beat(party, signer=other.node_key)

    refused(fleet, beat, 422, "not_the_node")
    assert state(fleet, party) == "never"


def test_a_heartbeat_handed_in_by_another_provider_is_refused(fleet: Fleet):
    party, other, _ = fleet.market.providers
    refused(fleet, lambda: fleet.beat(party, caller=other), 404, "not_found")
    assert state(fleet, party) == "never"


def test_a_replayed_heartbeat_is_refused(fleet: Fleet):
    party = fleet.market.providers[0]
    assert fleet.beat(party).status_code == 204
    fleet.now += LOST_SECONDS
    refused(fleet, lambda: fleet.beat(party), 422, "not_the_node")
    assert state(fleet, party) == "lost"


def test_a_process_that_another_followed_hears_so(fleet: Fleet):
    party = fleet.market.providers[0]
    assert fleet.beat(party).status_code == 204
    assert fleet.beat(party, boot=LATER).status_code == 204
    refused(fleet, lambda: fleet.beat(party, 2), 409, "superseded")
    assert fleet.beat(party, 2, boot=LATER).status_code == 204


def test_a_nodes_own_api_key_is_enough_and_a_researchers_is_not(fleet: Fleet):
    party = fleet.market.providers[0]
    made = fleet.market.must(fleet.market.post("/keys", party, {"scopes": ["node"]}))
    assert fleet.beat(party, caller=made["api_key"]).status_code == 204
    for caller in (fleet.market.researcher, fleet.market.auditor, fleet.market.operator):
        assert fleet.beat(party, 2, caller=caller).status_code == 403
    with fleet.market.context.reading() as session:
        assert session.exec(select(NodeSeat)).first() is None
