"""A reader of a log that changes its key: whom it follows, and what it remembers."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ledger import checkpoint as checkpoints
from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.client import SUCCESSIONS_FILE, LogClient
from ledger.errors import LogError, NoteError, SignatureError, SplitViewError, TrustError
from ledger.keys import SigningKey, VerifyKey
from ledger.log import Log
from ledger.succession import MAX_LIST, Succession, write_list
from ledger.trust import Policy
from tests.drafts import key_of
from tests.unit.test_ledger_client import Server
from tests.world import LOG_NAME, World

OLD = key_of(LOG_NAME)
NEW, THIRD, THIEF, RECOVERY = (
    SigningKey.from_seed(LOG_NAME, hashlib.sha256(name).digest())
    for name in (b"new", b"third", b"thief", b"recovery")
)
STRANGER = SigningKey.from_seed("stranger.example/log", hashlib.sha256(b"stranger").digest())


class Changing(Server):
    """A log over HTTP that shows its successions, or others."""

    shown: tuple[bytes, ...] | bytes | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/successions"):
            return super().__call__(request)
        self.asked.append("successions")
        shown = self.world.log.successions if self.shown is None else self.shown
        data = shown if isinstance(shown, bytes) else write_list(shown)
        return httpx.Response(200, content=data)

    def change(self, new: SigningKey) -> None:
        self.world.log.hand_over(new)
        self.world.log = Log(
            self.world.engine, new, self.world.folder / "checkpoints", self.world.clock
        )

    def grow(self) -> None:
        self.world.put(self.world.job())

    def head(self) -> Checkpoint:
        return open_checkpoint(self.world.log.checkpoint(), self.world.log.vkey)


def reader(server: Server, memory: Path, trust: VerifyKey | Policy = OLD.verify_key) -> LogClient:
    http = httpx.Client(transport=httpx.MockTransport(server), base_url="http://log.example")
    return LogClient(http, trust, memory)


@pytest.fixture
def server(tmp_path: Path) -> Changing:
    return Changing(World(tmp_path / "world", providers=2))


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "reader" / "highest"


def rival(server: Changing, new: SigningKey, *by: SigningKey) -> bytes:
    return Succession(server.head(), OLD.verify_key, new.verify_key).sign(new, *by)


def test_a_reader_follows_the_log_to_its_new_key(server: Changing, memory: Path):
    client = reader(server, memory)
    client.sync()
    assert "successions" not in server.asked
    server.change(NEW)
    # With nothing new in it, the log is signed by another key already.
    assert client.sync().size == client.size
    assert (memory.with_name(SUCCESSIONS_FILE)).read_bytes() == write_list(
        server.world.log.successions
    )
    server.grow()
    server.asked.clear()
    assert client.sync().size == server.world.log.size
    assert "successions" not in server.asked


def test_it_remembers_that_after_a_restart(server: Changing, memory: Path):
    reader(server, memory).sync()
    server.change(NEW)
    server.grow()
    reader(server, memory).sync()
    server.asked.clear()
    assert reader(server, memory).sync().size == server.world.log.size
    assert "successions" not in server.asked
    # The twin: who forgot the change does not know who signed its own memory.
    memory.with_name(SUCCESSIONS_FILE).unlink()
    with pytest.raises(TrustError, match="no known key"):
        reader(server, memory)


def test_one_that_starts_late_follows_several_changes(server: Changing, memory: Path):
    server.change(NEW)
    server.grow()
    server.change(THIRD)
    server.grow()
    assert reader(server, memory).sync().size == server.world.log.size
    assert reader(server, memory.with_name("between") / "highest", NEW.verify_key).sync()
    assert reader(server, memory.with_name("other") / "highest", THIRD.verify_key).sync()


def test_a_thief_of_the_retired_key_cannot_go_on(server: Changing, memory: Path):
    informed = reader(server, memory)
    server.change(NEW)
    informed.sync()
    server.grow()
    server.checkpoint = checkpoints.sign(server.head(), OLD)
    for client in (informed, reader(server, memory)):
        with pytest.raises(TrustError, match="was retired at"):
            client.sync()
    # The twin: who never saw the change cannot know.
    assert reader(server, memory.with_name("naive") / "highest").sync()


def edited(note: bytes) -> bytes:
    lines = note.split(b"\n")
    lines[2] = b"%d" % (int(lines[2]) + 1)
    return b"\n".join(lines)


@pytest.mark.parametrize(
    ("forge", "error", "message"),
    [
        (lambda s: (edited(s.world.log.successions[0]),), SignatureError, "does not verify"),
        (lambda s: (rival(s, NEW, THIEF),), TrustError, "lacks the signature"),
        (lambda _: (), TrustError, "no known key signed"),
        (lambda _: b"nothing", NoteError, "no JSON"),
        (lambda s: s.world.log.successions * 101, NoteError, "at most 100"),
        (lambda _: b" " * (MAX_LIST + 1), TrustError, "no known key signed"),
        (lambda s: (*s.world.log.successions, rival(s, THIEF, OLD)), TrustError, "two succ"),
    ],
    ids=["changed", "stranger", "none", "nothing", "many", "endless", "rival"],
)
def test_a_false_succession_is_not_followed(
    server: Changing,
    memory: Path,
    forge: Callable[[Changing], tuple[bytes, ...] | bytes],
    error: type[Exception],
    message: str,
):
    client = reader(server, memory)
    client.sync()
    server.change(NEW)
    server.shown = forge(server)
    for _ in range(2):
        with pytest.raises(error, match=message):
            client.sync()
    assert not memory.with_name(SUCCESSIONS_FILE).exists()
    # Nothing was spoiled by it: with the true one alone it goes on.
    server.shown = None
    assert client.sync().size == server.world.log.size


def test_a_rival_that_comes_later_is_refused(server: Changing, memory: Path):
    client = reader(server, memory)
    server.change(NEW)
    client.sync()
    server.shown = (rival(server, THIEF, OLD),)
    server.grow()
    server.checkpoint = checkpoints.sign(server.head(), THIEF)
    with pytest.raises(TrustError, match="two successions"):
        client.sync()
    # The twin: who sees the thief's first is deceived, unless a recovery key decides.
    assert reader(server, memory.with_name("naive") / "highest").sync()
    careful = Policy((OLD.verify_key,), recovery=(RECOVERY.verify_key,))
    server.shown = (rival(server, THIEF, OLD), rival(server, NEW, RECOVERY))
    with pytest.raises(TrustError):
        reader(server, memory.with_name("careful") / "highest", careful).sync()
    server.checkpoint = None
    assert reader(server, memory.with_name("careful") / "highest", careful).sync()


def test_successions_of_strangers_fill_no_memory(server: Changing, memory: Path):
    client = reader(server, memory)
    server.change(NEW)
    head = Checkpoint(STRANGER.name, 1, hashlib.sha256(b"x").digest())
    other = SigningKey.from_seed(STRANGER.name, hashlib.sha256(b"other").digest())
    strange = Succession(head, STRANGER.verify_key, other.verify_key).sign(other, STRANGER)
    server.shown = (strange, *server.world.log.successions)
    client.sync()
    kept = memory.with_name(SUCCESSIONS_FILE).read_bytes()
    assert kept == write_list(server.world.log.successions)


def test_what_the_old_key_signed_after_its_end_stops_the_reader(server: Changing, memory: Path):
    client = reader(server, memory)
    before = server.head()
    server.grow()
    client.sync()
    # The log hands over at a size smaller than one that was verified under the old key.
    early = Succession(before, OLD.verify_key, NEW.verify_key).sign(NEW, OLD)
    server.grow()
    server.shown, server.checkpoint = (early,), checkpoints.sign(server.head(), NEW)
    with pytest.raises(TrustError, match="was retired at"):
        client.sync()
    server.checkpoint = None
    # It still starts, and still follows the key that it knows.
    assert reader(server, memory).sync().size == server.world.log.size


def test_the_keys_must_change_in_this_very_history(server: Changing, memory: Path):
    client = reader(server, memory)
    client.sync()
    server.grow()
    wrong = Checkpoint(LOG_NAME, server.head().size, hashlib.sha256(b"another").digest())
    false = Succession(wrong, OLD.verify_key, NEW.verify_key).sign(NEW, OLD)
    server.grow()
    server.shown, server.checkpoint = (false,), checkpoints.sign(server.head(), NEW)
    for each in (client, reader(server, memory.with_name("new") / "highest")):
        with pytest.raises(SplitViewError, match="changed its key"):
            each.sync()
    assert not memory.with_name(SUCCESSIONS_FILE).exists()


def test_a_crash_between_the_two_files_is_harmless(
    server: Changing, memory: Path, monkeypatch: pytest.MonkeyPatch
):
    reader(server, memory).sync()
    server.change(NEW)
    server.grow()
    written: list[str] = []

    def once(path: Path, data: bytes) -> None:
        if written:
            raise OSError("power cut")
        written.append(path.name)
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr("ledger.durable.replace", once)
        with pytest.raises(OSError, match="power cut"):
            reader(server, memory).sync()
    assert written == [SUCCESSIONS_FILE]
    assert reader(server, memory).sync().size == server.world.log.size


def test_a_log_without_the_list_is_believed_as_before(server: Changing, memory: Path):
    assert reader(server, memory).sync()
    server.change(NEW)
    server.shown = b""
    server.status = 404
    with pytest.raises(LogError):
        reader(server, memory).sync()
