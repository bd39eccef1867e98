"""A log changed its key: exports from before, from after and by a thief, each verified whole."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from ledger import checkpoint as checkpoints
from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.entry import Opening
from ledger.errors import LogError, NoteError
from ledger.export import Extras
from ledger.export import export as write_export
from ledger.keys import SigningKey, VerifyKey
from ledger.log import Log
from ledger.succession import Succession
from ledger.trust import Policy
from ledger.verify import verify
from tests.drafts import key_of
from tests.world import LOG_NAME, World

NEW = SigningKey.from_seed(LOG_NAME, hashlib.sha256(b"the log's next key").digest())
THIEF = SigningKey.from_seed(LOG_NAME, hashlib.sha256(b"a key of a thief").digest())
RECOVERY = SigningKey.from_seed(LOG_NAME, hashlib.sha256(b"kept apart").digest())


class UnderKey:
    """A log as an export takes it, its newest checkpoint signed by any key."""

    def __init__(self, log: Log, key: SigningKey) -> None:
        self._log, self._key = log, key

    @property
    def vkey(self) -> VerifyKey:
        return self._key.verify_key

    def checkpoint(self) -> bytes:
        head = open_checkpoint(self._log.checkpoint(), self._log.vkey)
        return checkpoints.sign(head, self._key)

    def tile(self, path: str) -> bytes:
        return self._log.tile(path)

    def openings(self, start: int, stop: int) -> Sequence[Opening]:
        return self._log.openings(start, stop)


class Changed:
    """A world whose log changed its key at `head`, and went on for one more statement."""

    def __init__(self, folder: Path) -> None:
        self.world = World.with_one_use(folder / "world", providers=2)
        self.folder = folder
        self.old = self.world.log_key
        self.before = self.world.export(folder / "before")
        self.head = open_checkpoint(self.world.log.checkpoint(), self.world.log.vkey)
        self.world.put(self.world.revoke(self.world.providers[0], self.world.providers[0].offer))

    def succession(self, new: SigningKey, by: SigningKey, head: Checkpoint | None = None) -> bytes:
        return Succession(head or self.head, self.old.verify_key, new.verify_key).sign(new, by)

    def export(self, name: str, key: SigningKey, *successions: bytes) -> Path:
        path = self.folder / name
        write_export(
            UnderKey(self.world.log, key),
            key,
            path,
            opened=range(self.world.log.size),
            scope="everything",
            now=self.world.clock(),
            extras=Extras(succession=successions),
        )
        return path


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Changed:
    return Changed(tmp_path_factory.mktemp("rotation"))


def test_an_auditor_with_the_old_key_follows_to_the_new(changed: Changed):
    path = changed.export("after", NEW, changed.succession(NEW, changed.old))
    verdict = verify(path, changed.old.verify_key)
    assert (verdict.status, verdict.findings) == ("sound", [])
    assert verdict.key_fingerprint == NEW.verify_key.fingerprint
    assert verify(path, NEW.verify_key).status == "sound"
    # Without the succession the new key is a stranger's.
    bare = changed.export("bare", NEW)
    assert verify(bare, changed.old.verify_key).status == "untrusted"


def test_an_export_from_before_stays_sound(changed: Changed):
    policy = Policy.of(changed.old.verify_key).following([changed.succession(NEW, changed.old)])
    assert verify(changed.before, policy).status == "sound"


def test_a_stolen_old_key_cannot_go_on(changed: Changed):
    path = changed.export("stolen", changed.old)
    policy = Policy.of(changed.old.verify_key)
    assert verify(path, policy).status == "sound"
    informed = policy.following([changed.succession(NEW, changed.old)])
    verdict = verify(path, informed)
    assert verdict.status == "untrusted"
    assert "retired at" in verdict.missing[0].message


def test_a_thiefs_succession_is_refused_by_whoever_knows_the_true_one(changed: Changed):
    rival = changed.succession(THIEF, changed.old)
    path = changed.export("rival", THIEF, rival)
    policy = Policy.of(changed.old.verify_key)
    # Who knows nothing else is deceived: that is what a stolen key can do.
    assert verify(path, policy).status == "sound"
    informed = policy.following([changed.succession(NEW, changed.old)])
    verdict = verify(path, informed)
    assert verdict.status == "untrusted"
    assert "two successions" in verdict.missing[0].message
    # With a recovery key handed out beforehand, there is no doubt which of them stands.
    careful = Policy((changed.old.verify_key,), recovery=(RECOVERY.verify_key,))
    rescued = careful.following([changed.succession(NEW, RECOVERY)])
    assert verify(path, rescued).status == "untrusted"
    after = changed.export("rescued", NEW, changed.succession(NEW, RECOVERY), rival)
    assert verify(after, careful).status == "sound"


def test_the_new_key_must_go_on_with_the_same_history(changed: Changed):
    other = Checkpoint(LOG_NAME, changed.head.size, hashlib.sha256(b"another").digest())
    path = changed.export("other", NEW, changed.succession(NEW, changed.old, other))
    verdict = verify(path, changed.old.verify_key)
    assert verdict.status == "tampered"
    assert (
        verify(
            changed.export("same", NEW, changed.succession(NEW, changed.old)),
            changed.old.verify_key,
        ).status
        == "sound"
    )


def reopened(world: World, key: SigningKey) -> Log:
    return Log(world.engine, key, world.folder / "checkpoints", world.clock)


@pytest.fixture
def handed(tmp_path: Path) -> tuple[World, bytes]:
    """A world whose log named its next key, and goes on under it."""
    world = World.with_one_use(tmp_path / "world", providers=2)
    succession = world.log.hand_over(NEW)
    world.log = reopened(world, NEW)
    world.log_key = NEW
    return world, succession


def test_a_log_goes_on_under_its_next_key(handed: tuple[World, bytes], tmp_path: Path):
    world, succession = handed
    old = world.log.size
    assert world.log.successions == (succession,)
    assert open_checkpoint(world.log.checkpoint(), NEW.verify_key).size == old
    world.put(world.revoke(world.providers[0], world.providers[0].offer))
    path = tmp_path / "export"
    extras = Extras(succession=world.log.successions)
    write_export(
        world.log,
        NEW,
        path,
        opened=range(world.log.size),
        scope="all",
        now=world.clock(),
        extras=extras,
    )
    before = key_of(LOG_NAME).verify_key
    verdict = verify(path, before)
    assert (verdict.status, verdict.size) == ("sound", old + 1)
    # And it starts again.
    assert reopened(world, NEW).size == old + 1


def test_a_retired_key_starts_no_log(handed: tuple[World, bytes]):
    world, _ = handed
    with pytest.raises(LogError, match="goes on under"):
        reopened(world, key_of(LOG_NAME))
    assert reopened(world, NEW).size


def test_a_log_that_handed_over_signs_nothing_more(tmp_path: Path):
    world = World(tmp_path / "world", providers=2)
    offer = world.revoke(world.providers[0], world.providers[0].offer)
    world.log.hand_over(NEW)
    with pytest.raises(LogError, match="was retired"):
        world.put(offer)
    with pytest.raises(LogError):
        world.log.hand_over(THIEF)
    # What waited is not lost: the next key signs it.
    assert reopened(world, NEW).size == world.log.size + 1


def test_a_key_changes_twice(handed: tuple[World, bytes]):
    world, _ = handed
    world.log.hand_over(THIEF)
    world.log = reopened(world, THIEF)
    assert len(world.log.successions) == 2
    policy = Policy.of(key_of(LOG_NAME).verify_key).following(world.log.successions)
    assert policy.open_checkpoint(world.log.checkpoint()).key == THIEF.verify_key
    for key in (NEW, key_of(LOG_NAME)):
        with pytest.raises(LogError, match="retired"):
            reopened(world, key)


def test_a_running_log_does_not_change_its_key(tmp_path: Path):
    world = World(tmp_path / "world", providers=2)
    world.log.start()
    try:
        with pytest.raises(LogError, match="stop the log"):
            world.log.hand_over(NEW)
    finally:
        world.log.stop()
    with pytest.raises(NoteError):
        world.log.hand_over(SigningKey.from_seed("another.example", b"x" * 32))
    assert world.log.hand_over(NEW)


def test_a_damaged_succession_stops_the_log(handed: tuple[World, bytes]):
    world, succession = handed
    path = world.folder / "checkpoints" / "succession" / "000"
    path.write_bytes(succession.replace(b"rongshu/log", b"wrongshu/log"))
    with pytest.raises(LogError, match="succession"):
        reopened(world, NEW)
    path.write_bytes(succession)
    assert reopened(world, NEW).size


def test_a_database_from_before_the_change_is_refused(tmp_path: Path):
    world = World(tmp_path / "world", providers=2)
    older = world.copy(tmp_path / "older")
    world.put(world.revoke(world.providers[0], world.providers[0].offer))
    world.log.hand_over(NEW)
    shutil.copytree(world.folder / "checkpoints", older.folder / "checkpoints", dirs_exist_ok=True)
    with pytest.raises(LogError, match="older backup"):
        reopened(older, NEW)
    assert reopened(world, NEW).size
