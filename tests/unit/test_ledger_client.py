"""A reader of the log that believes nothing: what it takes from a log, honest and otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.checkpoint import sign as sign_checkpoint
from ledger.client import LogClient
from ledger.encoding import b64encode
from ledger.errors import LedgerError, LogError, RolledBackError, SplitViewError, TrustError
from ledger.keys import SigningKey
from ledger.merkle import leaf_hash, root
from ledger.statements import Grant
from ledger.tiles import Tile, decode_bundle, encode_bundle
from tests.drafts import key_of
from tests.log_routes import route_of, shown
from tests.world import LOG_NAME, World


@dataclass
class Server:
    """A world's log over HTTP; each route may be made to lie."""

    world: World
    sealed: set[int] = field(default_factory=set)
    lies: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    checkpoint: bytes | None = None
    asked: list[str] = field(default_factory=list)
    status: int = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = route_of(request)
        self.asked.append(path)
        if self.status != 200:
            return httpx.Response(self.status)
        data = shown(self.world.log, request, self.sealed)
        if path == "checkpoint" and self.checkpoint is not None:
            data = self.checkpoint
        for part, lie in self.lies.items():
            if part in path:
                data = lie(data)
        return httpx.Response(200, content=data)


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> World:
    return World(tmp_path / "world", providers=2, terms={"minimum_parties": 2})


def reader(server: Server, memory: Path) -> LogClient:
    http = httpx.Client(transport=httpx.MockTransport(server), base_url="http://log.example")
    return LogClient(http, server.world.log.vkey, memory)


def test_it_reads_the_whole_log_and_then_only_what_is_new(world: World, tmp_path: Path):
    server = Server(world)
    client = reader(server, tmp_path / "highest")
    assert client.sync().size == world.log.size == client.size
    assert set(client.history.by_id) == set(world.log.history.by_id)
    assert client.broken == []
    server.asked.clear()
    client.sync()
    assert server.asked == ["checkpoint"]
    job, grants = world.granted_job()
    client.sync()
    assert {job, *grants} <= set(client.history.by_id)
    assert (tmp_path / "highest").read_bytes() == world.log.checkpoint()


def test_more_entries_than_one_bundle_holds_are_read(world: World, tmp_path: Path):
    while world.log.size < 260:
        world.put(world.job())
    client = reader(Server(world), tmp_path / "highest")
    assert client.sync().size == len(client.history.by_id) == world.log.size


# --- a checkpoint that somebody hands over


def test_a_checkpoint_that_is_handed_over_is_not_asked_for(world: World, tmp_path: Path):
    server = Server(world)
    client = reader(server, tmp_path / "highest")
    assert client.sync(world.log.checkpoint()).size == world.log.size == client.size
    assert "checkpoint" not in server.asked
    server.asked.clear()
    client.sync(world.log.checkpoint())
    assert server.asked == []
    job = world.put(world.job())
    client.sync(world.log.checkpoint())
    assert job in client.history.by_id
    assert "checkpoint" not in server.asked


@pytest.mark.parametrize("restarted", [False, True])
def test_of_one_that_is_older_than_what_is_known_the_server_is_asked(
    world: World, tmp_path: Path, *, restarted: bool
):
    server, old = Server(world), world.log.checkpoint()
    world.put(world.job())
    client = reader(server, tmp_path / "highest")
    client.sync()
    client = reader(server, tmp_path / "highest") if restarted else client
    server.asked.clear()
    assert client.sync(old).size == world.log.size
    assert server.asked.count("checkpoint") == 1
    # The twin: where the server shows no more either, the log went back.
    server.checkpoint = old
    with pytest.raises(RolledBackError, match="went back"):
        client.sync(old)


@pytest.mark.parametrize("grown", [False, True])
def test_one_of_another_history_is_refused_however_it_came(
    world: World, tmp_path: Path, *, grown: bool
):
    other, _ = forked(world)
    if grown:
        world.put(world.job())
    client = reader(Server(world), tmp_path / "highest")
    client.sync()
    with pytest.raises(SplitViewError, match="two histories"):
        client.sync(other)


def test_one_that_the_log_did_not_sign_changes_nothing(world: World, tmp_path: Path):
    server = Server(world, status=404)  # It tells of no other key either.
    client = reader(server, tmp_path / "highest")
    head = open_checkpoint(world.log.checkpoint(), world.log.vkey)
    with pytest.raises(TrustError):
        client.sync(sign_checkpoint(head, SigningKey.generate(LOG_NAME)))
    assert (client.size, server.asked) == (0, ["successions"])


# --- going back and forking


def test_a_log_that_goes_back_is_refused_also_after_a_restart(world: World, tmp_path: Path):
    server = Server(world)
    old = world.log.checkpoint()
    world.put(world.job())
    client = reader(server, tmp_path / "highest")
    client.sync()
    server.checkpoint = old
    with pytest.raises(RolledBackError, match="went back"):
        client.sync()
    with pytest.raises(RolledBackError, match="went back"):
        reader(server, tmp_path / "highest").sync()
    # The twin: whoever remembers nothing takes it.
    assert reader(server, tmp_path / "other").sync().size == world.log.size - 1


def forked(world: World) -> tuple[bytes, Callable[[bytes], bytes]]:
    """A history with another entry in it, signed by the log's own key."""
    raw = list(world.log.entry_bytes(0, world.log.size))
    raw[3] = raw[3].replace(b'"time":', b'"time":1')
    head = Checkpoint(LOG_NAME, len(raw), root([leaf_hash(item) for item in raw]))

    def bundle(data: bytes) -> bytes:
        return encode_bundle(raw) if data else data

    return sign_checkpoint(head, key_of(LOG_NAME)), bundle


def test_two_histories_of_one_size_are_refused(world: World, tmp_path: Path):
    server = Server(world)
    client = reader(server, tmp_path / "highest")
    client.sync()
    server.checkpoint, _ = forked(world)
    with pytest.raises(SplitViewError, match="two histories"):
        client.sync()


def test_a_rewritten_history_is_refused_after_a_restart(world: World, tmp_path: Path):
    reader(Server(world), tmp_path / "highest").sync()
    server = Server(world)
    server.checkpoint, server.lies["tile"] = forked(world)
    with pytest.raises(SplitViewError, match="two histories"):
        reader(server, tmp_path / "highest").sync()


def test_entries_that_are_not_those_of_the_checkpoint_are_refused(world: World, tmp_path: Path):
    server = Server(world)
    _, server.lies["tile"] = forked(world)
    with pytest.raises(TrustError, match="root that is signed"):
        reader(server, tmp_path / "highest").sync()
    assert not (tmp_path / "highest").exists()


def test_a_checkpoint_of_another_key_or_log_is_refused(world: World, tmp_path: Path):
    server = Server(world)
    for key in (SigningKey.generate(LOG_NAME), SigningKey.generate("another.example/log")):
        server.checkpoint = sign_checkpoint(Checkpoint(key.name, world.log.size, b"\0" * 32), key)
        with pytest.raises(LedgerError):
            reader(server, tmp_path / "highest").sync()
    (tmp_path / "foreign").write_bytes(server.checkpoint or b"")
    with pytest.raises(LedgerError):
        reader(Server(world), tmp_path / "foreign")


# --- what is withheld


def test_a_statement_that_is_withheld_is_just_not_there(world: World, tmp_path: Path):
    job, grants = world.granted_job()
    server = Server(world, sealed={world.log.history.by_id[grants[0]].index})
    client = reader(server, tmp_path / "highest")
    client.sync()
    assert grants[0] not in client.history.by_id
    assert job in client.history.by_id


def test_a_revocation_that_is_withheld_stops_the_reader(world: World, tmp_path: Path):
    client = reader(server := Server(world), tmp_path / "highest")
    before = client.sync()
    world.put(world.revoke(world.providers[0], world.providers[0].agreement))
    server.sealed = {world.log.size - 1}
    with pytest.raises(TrustError, match="revocation that the log withholds"):
        client.sync()
    # Nothing of it was taken, and with the opening it goes on.
    assert client.size == before.size == client.history.size
    server.sealed = set()
    client.sync()
    assert client.history.revoked_before(world.providers[0].agreement, client.size)


def test_a_revocation_by_somebody_hidden_takes_effect_all_the_same(world: World, tmp_path: Path):
    target = world.providers[1]
    world.put(world.revoke(world.operator, target.id))
    server = Server(world, sealed={0})
    client = reader(server, tmp_path / "highest")
    client.sync()
    assert client.history.revoked_before(target.id, client.size)


def test_a_revocation_that_its_issuer_did_not_sign_takes_none(world: World, tmp_path: Path):
    from ledger.statements import Revocation

    statement = world.revoke(world.providers[0], world.providers[0].agreement)
    world.insecure_put(
        world.insecure_sign(Revocation, statement.payload(), SigningKey.generate("stranger"))
    )
    client = reader(Server(world), tmp_path / "highest")
    client.sync()
    assert len(client.broken) == 1
    assert not client.history.revoked_before(statement.target, client.size)


def test_a_grant_that_its_provider_did_not_sign_is_never_known(world: World, tmp_path: Path):
    job = world.put(world.job())
    honest = world.grant(world.providers[0], job)
    envelope = world.insecure_sign(Grant, honest.payload(), SigningKey.generate("stranger"))
    forged = world.insecure_put(envelope)
    client = reader(Server(world), tmp_path / "highest")
    client.sync()
    assert forged not in client.history.by_id
    assert len(client.broken) == 1


# --- false openings and nonsense


def swapped(data: bytes) -> bytes:
    value = json.loads(data)
    first, second, *_ = value["openings"]
    first["envelope"], second["envelope"] = second["envelope"], first["envelope"]
    return json.dumps(value).encode()


def salted(data: bytes) -> bytes:
    value = json.loads(data)
    value["openings"][0]["salt"] = b64encode(bytes(32))
    return json.dumps(value).encode()


@pytest.mark.parametrize("lie", [swapped, salted])
def test_an_opening_that_the_entry_does_not_commit_to_is_refused(
    world: World, tmp_path: Path, lie: Callable[[bytes], bytes]
):
    server = Server(world, lies={"openings": lie})
    with pytest.raises(TrustError, match="false statement"):
        reader(server, tmp_path / "highest").sync()


NONSENSE = [
    ("checkpoint", b""),
    ("checkpoint", b"\xff\xfe"),
    ("checkpoint", b"a\n1\nb\n\n"),
    ("tile", b""),
    ("tile", b"\xff" * 70_000),
    ("openings", b""),
    ("openings", b"null"),
    ("openings", b"[" * 100_000),
    ("openings", b'{"openings":[1]}'),
    ("openings", b'{"openings":[{"index":-1,"salt":"","envelope":""}]}'),
]


@pytest.mark.parametrize(("path", "data"), NONSENSE)
def test_nonsense_is_an_error_and_changes_nothing(
    world: World, tmp_path: Path, path: str, data: bytes
):
    server = Server(world, lies={path: lambda _: data})
    client = reader(server, tmp_path / "highest")
    with pytest.raises(LedgerError):
        client.sync()
    assert client.size == client.history.size == 0
    server.lies.clear()
    assert client.sync().size == world.log.size


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_server_that_does_not_answer_is_an_error_of_its_own(
    world: World, tmp_path: Path, status: int
):
    server = Server(world, status=status)
    client = reader(server, tmp_path / "highest")
    with pytest.raises(LogError, match="did not answer"):
        client.sync()
    server.status = 200
    assert client.sync().size == world.log.size


def test_a_bundle_is_asked_for_as_it_stands_in_the_log(world: World, tmp_path: Path):
    server = Server(world)
    reader(server, tmp_path / "highest").sync()
    path = Tile(None, 0, world.log.size).path
    assert path in server.asked
    assert len(decode_bundle(world.log.tile(path), world.log.size)) == world.log.size


def test_what_rests_on_something_hidden_is_known_and_not_called_broken(
    world: World, tmp_path: Path
):
    second = world.providers[1]
    job, grants = world.granted_job()
    server = Server(world, sealed={world.log.index_of(second.asset)})
    client = reader(server, tmp_path / "highest")
    client.sync()
    assert client.broken == []
    assert {job, *grants, second.offer} <= client.history.by_id.keys()
    assert second.asset not in client.history.by_id


@pytest.mark.parametrize("beyond", [0, 1])
def test_openings_that_nobody_asked_for_are_passed_over(world: World, tmp_path: Path, beyond: int):
    """They could stand for entries that are read later, or were read before."""
    client = reader(server := Server(world), tmp_path / "highest")
    before = client.sync().size
    asset = world.put(world.asset(world.providers[0], description="Another table"))

    def more(data: bytes) -> bytes:
        value = json.loads(data)
        stray = dict(value["openings"][0], index=world.log.size if beyond else 0)
        return json.dumps({"openings": [*value["openings"], stray]}).encode()

    server.lies["openings"] = more
    assert client.sync().size == before + 1
    assert asset in client.history.by_id
    # The twin: for the very entry that is asked for it is a false statement.
    world.put(world.offer(world.providers[0]))
    server.lies["openings"] = salted
    with pytest.raises(TrustError, match="false statement"):
        client.sync()
