"""A reader that meets a second history, an old one or too small a one: its errors and proofs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from ledger.client import PROOF_FILE, VIEW_FILES, LogClient
from ledger.cosignature import attach, cosign
from ledger.errors import (
    LedgerError,
    PolicyError,
    RolledBackError,
    SplitViewError,
    StaleLogError,
    TrustError,
)
from ledger.fork import open_fork
from ledger.keys import CosigningKey
from ledger.trust import Policy
from tests.drafts import Party, key_of
from tests.log_routes import route_of, shown
from tests.world import World


@dataclass
class Server:
    """Shows one world, or another one from now on; cosigned by whoever is asked to."""

    world: World
    shown: bytes | None = None
    lie: Callable[[str, bytes], bytes] = lambda _path, data: data
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = route_of(request)
        self.asked.append(path)
        try:
            data = shown(self.world.log, request)
        except LedgerError:
            return httpx.Response(404)
        if path == "checkpoint" and self.shown is not None:
            data = self.shown
        return httpx.Response(200, content=self.lie(path, data))


def newcomer(world: World, name: str) -> None:
    party = Party(name, key_of(name))
    world.put(world.participant(party, "auditor").sign(party.key))


def reader(
    server: Server, folder: Path, trust: Policy | None = None, **options: object
) -> LogClient:
    http = httpx.Client(transport=httpx.MockTransport(server), base_url="http://log.example")
    policy = trust or server.world.log.vkey
    return LogClient(http, policy, folder / "highest", **options)  # type: ignore[arg-type]


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Entries that both histories share."""
    return World(tmp_path_factory.mktemp("world") / "log", providers=1)


@dataclass
class Two:
    """Two histories of one log: `one` and `other` part after the common entries."""

    one: World
    other: World
    common: int


@pytest.fixture(name="two")
def _two(world: World, tmp_path: Path) -> Two:
    two = Two(world.copy(tmp_path / "one"), world.copy(tmp_path / "other"), world.log.size)
    for number in range(3):
        newcomer(two.one, f"one{number}.example")
        newcomer(two.other, f"other{number}.example")
    return two


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "reader").mkdir()
    return tmp_path / "reader"


def grow(world: World) -> None:
    newcomer(world, f"more{world.log.size}.example")


SIZES = {
    "larger": lambda two: grow(two.other),
    "as large": lambda _two: None,
    "smaller": lambda two: grow(two.one),
}


@pytest.mark.parametrize("size", SIZES)
def test_a_running_reader_that_meets_a_second_history_proves_it(two: Two, folder: Path, size: str):
    SIZES[size](two)
    server = Server(two.one)
    client = reader(server, folder)
    client.sync()
    before = (client.size, set(client.history.by_id))
    server.world = two.other
    with pytest.raises(SplitViewError, match="two histories") as caught:
        client.sync()
    assert str(folder / PROOF_FILE) in str(caught.value)
    # Anybody can check the file with the log's key alone.
    forked = open_fork((folder / PROOF_FILE).read_bytes(), two.one.log.vkey)
    assert {head.size for head in forked.heads} == {two.one.log.size, two.other.log.size}
    assert (client.size, set(client.history.by_id)) == before


@pytest.mark.parametrize("size", SIZES)
def test_a_restarted_reader_refuses_and_keeps_what_it_has(two: Two, folder: Path, size: str):
    SIZES[size](two)
    reader(Server(two.one), folder).sync()
    client = reader(Server(two.other), folder)
    if size == "smaller":
        # Its entries are not read any more, so less is all that it sees.
        with pytest.raises(RolledBackError, match="went back"):
            client.sync()
        assert not list(folder.glob("fork*")) + list(folder.glob("split*"))
        return
    with pytest.raises(SplitViewError):
        client.sync()
    if size == "as large":
        assert open_fork((folder / PROOF_FILE).read_bytes(), two.one.log.vkey)
    else:
        kept = [(folder / name).read_bytes() for name in VIEW_FILES]
        assert kept == [two.one.log.checkpoint(), two.other.log.checkpoint()]


@pytest.mark.parametrize("size", ["larger", "as large"])
def test_a_log_that_was_split_is_not_believed_until_a_person_has_looked(
    two: Two, folder: Path, size: str
):
    SIZES[size](two)
    server = Server(two.one)
    client = reader(server, folder)
    client.sync()
    server.world = two.other
    with pytest.raises(SplitViewError):
        client.sync()
    # It shows the first history again, and also after a restart.
    server.world = two.one
    for again in (client, reader(server, folder)):
        with pytest.raises(SplitViewError, match="until a person has looked"):
            again.sync()
    (folder / PROOF_FILE).unlink()
    assert reader(server, folder).sync().size == two.one.log.size


def test_a_smaller_beginning_of_the_same_history_is_a_roll_back(two: Two, folder: Path):
    server = Server(two.one, two.one.log.checkpoint())
    grow(two.one)
    old, server.shown = server.shown, None
    client = reader(server, folder)
    client.sync()
    server.shown = old
    for again in (client, reader(server, folder)):
        with pytest.raises(RolledBackError, match=f"{two.one.log.size} were verified before"):
            again.sync()
    # A log that was restored goes on once it is whole again.
    server.shown = None
    assert client.sync().size == two.one.log.size


def test_a_server_that_damages_entries_or_tiles_is_no_split_view(two: Two, folder: Path):
    server = Server(two.one)
    client = reader(server, folder)
    client.sync()
    grow(two.one)

    def damage(path: str, data: bytes) -> bytes:
        return data if path in ("checkpoint", "openings") else data[:-1] + bytes([data[-1] ^ 1])

    def other_entry(path: str, data: bytes) -> bytes:
        return data.replace(b'"time":1', b'"time":2') if "entries" in path else data

    def other_entry_and_tiles(path: str, data: bytes) -> bytes:
        return bytes(len(data)) if path.startswith("tile/0") else other_entry(path, data)

    def other_entry_and_no_tiles(path: str, data: bytes) -> bytes:
        return b"" if path.startswith("tile/0") else other_entry(path, data)

    for server.lie in (damage, other_entry, other_entry_and_tiles, other_entry_and_no_tiles):
        with pytest.raises(LedgerError) as caught:
            client.sync()
        assert not isinstance(caught.value, SplitViewError)
    server.lie = lambda _path, data: data
    assert client.sync().size == two.one.log.size


def test_a_proof_that_cannot_be_stored_does_not_undo_the_refusal(
    two: Two, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    server = Server(two.one)
    client = reader(server, folder)
    client.sync()
    server.world = two.other

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ledger.durable.replace", full)
    for _ in range(2):
        with pytest.raises(SplitViewError, match="two histories"):
            client.sync()
    assert not (folder / PROOF_FILE).exists()


def test_the_twin_without_a_memory_takes_either_history(two: Two, tmp_path: Path):
    for number, world in enumerate((two.one, two.other)):
        (tmp_path / str(number)).mkdir()
        assert reader(Server(world), tmp_path / str(number)).sync().size == world.log.size


def test_nothing_is_asked_twice_where_nothing_grew(two: Two, folder: Path):
    server = Server(two.one)
    client = reader(server, folder)
    client.sync()
    server.asked.clear()
    client.sync()
    assert server.asked == ["checkpoint"]


# --- with witnesses


WITNESSES = {
    name: CosigningKey.from_seed(f"{name}.example", name.encode().ljust(32)) for name in "abc"
}
LIMIT = 600


@dataclass
class Witnessed:
    """A log whose checkpoints some witnesses cosign at some time."""

    server: Server
    policy: Policy

    def show(self, *cosigned: tuple[str, int]) -> None:
        signed = self.server.world.log.checkpoint()
        lines = [cosign(signed, WITNESSES[name], time) for name, time in cosigned]
        self.server.shown = attach(signed, lines)

    @property
    def now(self) -> int:
        return self.server.world.clock() // 1000


@pytest.fixture(name="witnessed")
def _witnessed(two: Two) -> Witnessed:
    lines = [f"log {two.one.log.vkey.text}"]
    lines += [f"witness {name} {key.verify_key.text}" for name, key in WITNESSES.items()]
    lines += ["group two 2 a b c", "quorum two"]
    return Witnessed(Server(two.one), Policy.parse("".join(f"{line}\n" for line in lines)))


def fresh_reader(witnessed: Witnessed, folder: Path) -> LogClient:
    clock = witnessed.server.world.clock
    return reader(witnessed.server, folder, witnessed.policy, max_age=LIMIT, clock=clock)


def test_a_checkpoint_without_its_quorum_is_not_believed(witnessed: Witnessed, folder: Path):
    client = fresh_reader(witnessed, folder)
    for cosigned in ((), (("a", witnessed.now),)):
        witnessed.show(*cosigned)
        with pytest.raises(TrustError, match=rf"{len(cosigned)} of the 2"):
            client.sync()
    assert not (folder / "highest").exists()
    witnessed.show(("a", witnessed.now), ("c", witnessed.now))
    assert client.sync().size == witnessed.server.world.log.size


@pytest.mark.parametrize(
    ("ages", "told"),
    [((0, 0), ""), ((LIMIT, LIMIT), ""), ((0, LIMIT + 1), "601 s ago"),
     ((LIMIT + 1, 9_999), "9999 s ago"), ((-LIMIT - 1, -LIMIT - 2), "601 s from now")],
)  # fmt: skip
def test_a_checkpoint_is_as_old_as_its_quorum_says(
    witnessed: Witnessed, folder: Path, ages: tuple[int, int], told: str
):
    now = witnessed.now
    witnessed.show(*((name, now - age) for name, age in zip("ab", ages, strict=True)))
    client = fresh_reader(witnessed, folder)
    if not told:
        client.sync()
        return
    with pytest.raises(StaleLogError, match=told):
        client.sync()
    # The twin: without a limit it is taken.
    assert reader(witnessed.server, folder, witnessed.policy).sync()


def test_what_is_too_old_to_act_upon_still_guards_against_going_back(
    witnessed: Witnessed, folder: Path
):
    world = witnessed.server.world
    witnessed.show(("a", witnessed.now), ("b", witnessed.now))
    old = witnessed.server.shown
    grow(world)
    witnessed.show(("a", 1), ("b", 1))
    with pytest.raises(StaleLogError):
        fresh_reader(witnessed, folder).sync()
    witnessed.server.shown = old
    with pytest.raises(RolledBackError):
        fresh_reader(witnessed, folder).sync()


def test_a_quiet_log_is_fresh_as_long_as_it_is_cosigned_anew(witnessed: Witnessed, folder: Path):
    client = fresh_reader(witnessed, folder)
    witnessed.show(("a", witnessed.now), ("b", witnessed.now))
    client.sync()
    witnessed.server.world.clock.advance(1000 * (LIMIT + 1))
    with pytest.raises(StaleLogError):
        client.sync()
    witnessed.show(("a", witnessed.now), ("b", witnessed.now))
    assert client.sync()


def test_a_memory_from_before_the_quorum_still_counts(witnessed: Witnessed, two: Two, folder: Path):
    reader(Server(two.one), folder).sync()
    witnessed.server.world = two.other
    witnessed.show(("a", witnessed.now), ("b", witnessed.now))
    with pytest.raises(SplitViewError):
        fresh_reader(witnessed, folder).sync()


def test_an_age_needs_witnesses_and_a_clock(witnessed: Witnessed, folder: Path):
    server = witnessed.server
    with pytest.raises(PolicyError, match="witnesses alone"):
        reader(server, folder, max_age=LIMIT, clock=server.world.clock)
    with pytest.raises(PolicyError, match="with a clock"):
        reader(server, folder, witnessed.policy, max_age=LIMIT)
