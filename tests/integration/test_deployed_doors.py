"""What can be reached of a deployed market from outside, and who is let in: real processes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from federated import certificates
from federated.address import reach
from federated.certificates import trusting
from federated.enrolment import NodeEnrolment, code_digest
from federated.errors import SuperLinkError
from federated.fleet_key import FleetKey
from federated.superlink import fleet
from federated.superlink.fleet import Fleet
from federated.superlink.process import access_of
from federated.superlink.runs import Runs
from ledger.encoding import parse
from marketplace.client import Provider
from marketplace.listing import list_node, make_node
from tests.deployed import TABLES, Town, listening, open_town

BINARY = {"content-type": PROTOBUF_MEDIA_TYPE}
# As Flower names them; those with a body of zero bytes are whole requests.
INSIDE = (
    "/v1/control/list-nodes",
    "/v1/control/list-runs",
    "/v1/control/register-node",
    "/v1/control/start-run",
    "/v1/runtime/acquire-task",
    "/v1/runtime/pull-messages",
)


@pytest.fixture(scope="module", name="town")
def _town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    name, table = next(iter(TABLES.items()))
    with open_town(tmp_path_factory.mktemp("doors"), {name: table}) as town:
        yield town


@pytest.fixture(name="fleet_of")
def _fleet_of(town: Town) -> Any:
    def made(key: FleetKey, number: int = 7, **rest: Any) -> Fleet:
        return Fleet(town.market.address, trusting(town.ca), key, number, **rest)

    return made


def seat_of(town: Town) -> tuple[FleetKey, int]:
    home = town.nodes["north"].home
    return home.fleet_key(), int(home.settings.seat)


# --- which paths lead through


@pytest.mark.parametrize(
    "path",
    [
        *INSIDE,
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/get-fab",
        "/v1/fleet/get-run",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e%2fcontrol%2flist-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
        "/v1/fleet//control/list-nodes",
        "/v1/fleet",
        "/v1/fleet/",
        "/health",
    ],
)
def test_nothing_of_the_superlink_but_what_nodes_need_is_outside(town: Town, path: str):
    url = httpx.URL(f"{town.market.address}{path}")
    answer = town.market.http().post(url, content=b"", headers=BINARY)
    assert answer.status_code in (404, 405), answer.text


def test_a_nodes_requests_pass_and_are_authenticated_behind(town: Town):
    answer = town.post("/v1/fleet/pull-messages", content=b"", headers=BINARY)
    # The SuperLink's own answer to whoever proves nothing.
    assert answer.status_code == 401
    assert len(answer.headers.get_list("date")) == 1


def test_the_same_paths_are_there_on_loopback_for_the_operator_alone(town: Town):
    access = access_of(town.data / "superlink")
    context = trusting(town.data / "superlink" / "tls" / certificates.CA)
    with httpx.Client(verify=context, base_url=f"https://{access.address}") as http:
        for path in INSIDE:
            assert http.post(path, content=b"", headers=BINARY).status_code != 404, path
    # Nor does one certificate open the other door.
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"https://{access.address}/health", verify=trusting(town.ca))
    assert (town.data / "superlink" / "secret").stat().st_mode & 0o777 == 0o600
    assert (town.data / "superlink").stat().st_mode & 0o077 == 0


def test_the_superlink_listens_on_loopback_alone(town: Town):
    port = int(access_of(town.data / "superlink").address.rpartition(":")[2])
    assert listening(town.superlink()) == {("0100007F", port)}
    assert listening(town.pid()) == {("0100007F", town.market.port)}


# --- who is believed


def test_a_node_is_let_in_by_its_key(town: Town, fleet_of: Any):
    town.nodes["north"].process.stop()
    key, number = seat_of(town)
    with fleet_of(key, number) as there:
        there.connect()
        there.beat()
    town.nodes["north"].start()


def test_a_key_that_never_enrolled_is_refused(town: Town, fleet_of: Any):
    del town
    with fleet_of(FleetKey.generate()) as there, pytest.raises(SuperLinkError, match="HTTP 4"):
        there.connect()


def test_another_nodes_number_is_refused(town: Town, fleet_of: Any):
    _, number = seat_of(town)
    with fleet_of(FleetKey.generate(), number) as there:
        for ask in (there.beat, there.receive):
            with pytest.raises(SuperLinkError, match="HTTP 401"):
                ask()


def test_a_node_believes_no_service_under_another_authority(town: Town, tmp_path: Path):
    other = certificates.make(["127.0.0.1"], now=datetime.now(UTC))
    certificates.save(other, tmp_path)
    key, number = seat_of(town)
    wrong = Fleet(town.market.address, trusting(tmp_path / certificates.CA), key, number)
    with wrong as there, pytest.raises(SuperLinkError, match="cannot be reached: ConnectError"):
        there.connect()
    with (
        reach(tmp_path, town.market.address) as http,
        pytest.raises(httpx.ConnectError, match="certificate verify failed"),
    ):
        http.get("/v1/health")
    # Nor one that speaks plain HTTP where TLS is expected, or the other way round.
    plain = town.market.address.replace("https", "http")
    with reach(tmp_path, plain) as http, pytest.raises(httpx.HTTPError):
        http.get("/v1/health")


# --- enrolling


def enrolment(town: Town, key: bytes, code: str, name: str = "north") -> dict[str, Any]:
    home = town.nodes[name].home
    asset = home.settings.asset
    signed = NodeEnrolment(asset, code_digest(code), key).sign(home.node_key())
    return {"asset": asset, "code": code, "signed": parse(signed)}


def test_a_replayed_code_and_a_second_node_with_one_key_are_refused(town: Town, tmp_path: Path):
    file = tmp_path / "second.csv"
    file.write_text(TABLES["south"])
    home = town.market.enrol("second", "provider")
    provider = Provider(home, town.market.http())
    node = make_node(town.market.folder / "nodes" / "second", home, file, {"header": True})
    node = list_node(node, provider, name="second", description="", use_rights="", cost_cents=100)
    code = provider.call("POST", f"/assets/{node.settings.asset}/codes", {})["code"]

    def ask(key: bytes) -> httpx.Response:
        signed = NodeEnrolment(node.settings.asset, code_digest(code), key).sign(node.node_key())
        body = {"asset": node.settings.asset, "code": code, "signed": parse(signed)}
        return town.post("/v1/nodes", json=body)

    taken, fresh = seat_of(town)[0].public, FleetKey.generate().public
    second = ask(taken)
    assert (second.status_code, second.json()["code"]) == (409, "duplicate_key")
    first = ask(fresh)
    assert first.status_code == 201
    again = ask(fresh)
    assert (again.status_code, again.json()["code"]) == (403, "bad_code")


def test_the_real_registry_answers_as_the_one_in_memory_does(town: Town):
    runs = Runs(access_of(town.data / "superlink"))
    try:
        known = runs.registered()
        key, number = seat_of(town)
        assert known[key.public] == number
        # A key keeps its number; what is no key is refused.
        assert runs.register(key.public) == number
        fresh = FleetKey.generate().public
        assert runs.register(fresh) == runs.register(fresh)
        with pytest.raises(SuperLinkError, match="the SuperLink refuses"):
            runs.register(b"no key")
        assert set(runs.registered()) == {*known, fresh}
        # A number is forgotten for good, and its key with it.
        for _ in range(2):
            runs.unregister(runs.registered().get(fresh, 0))
        assert runs.registered() == known
        with pytest.raises(SuperLinkError, match="the SuperLink refuses"):
            runs.register(fresh)
    finally:
        runs.close()


# --- clocks


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_node_whose_clock_is_wrong_proves_itself_by_the_operators(
    town: Town, fleet_of: Any, minutes: int
):
    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(minutes=minutes)

    town.nodes["north"].process.stop()
    key, number = seat_of(town)
    with fleet_of(key, number, clock=clock) as there:
        there.connect()
        there.beat()
    town.nodes["north"].start()


@pytest.mark.parametrize("minutes", [-10, 10])
def test_without_the_operators_clock_it_would_be_refused(
    town: Town, fleet_of: Any, minutes: int, monkeypatch: pytest.MonkeyPatch
):
    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(minutes=minutes)

    monkeypatch.setattr(fleet._NodeProof, "_learn", lambda *_: False)
    key, number = seat_of(town)
    with (
        fleet_of(key, number, clock=clock) as there,
        pytest.raises(SuperLinkError, match="is this machine's clock right"),
    ):
        there.connect()
