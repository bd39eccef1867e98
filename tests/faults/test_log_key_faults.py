"""The log's key is changed, and the power goes out at every step: one change, never a fork.

Every write that must reach the disk is counted; each is lost or done when the power goes out, once
and again in the run that follows. After each: the log has one key, at most one succession of the
old one was ever made, and what anybody holds still verifies.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from ledger.checkpoint import open_checkpoint
from ledger.errors import LogError, NoteError
from ledger.keys import SigningKey, VerifyKey
from ledger.log import Log
from ledger.publisher import kept_successions, only_writer
from ledger.succession import split_unverified
from ledger.trust import Policy
from marketplace.app import running
from marketplace.database import open_database
from marketplace.errors import KeyMissingError
from marketplace.log_key_change import LogKeyChange, change_log_key
from marketplace.new_key import waiting_path
from marketplace.settings import Settings
from tests.drafts import Clock

NAME = "rongshu.local/log"
RECOVERY = SigningKey.from_seed(NAME, b"r" * 32)


class CrashError(BaseException):
    """The power went out."""


@dataclass
class Data:
    """A data folder whose service stands still, and what was known of its log before."""

    settings: Settings
    engine: sa.Engine
    old: SigningKey
    shown: bytes

    def copy(self, folder: Path) -> "Data":
        """The same with files of its own; the database is shared, for nothing is written to it."""
        for name in ("log", "keys"):
            shutil.copytree(self.settings.folder / name, folder / name)
        return replace(self, settings=Settings(folder=folder))

    def change(self, mode: str = "plain") -> LogKeyChange:
        return change_log_key(
            self.settings,
            self.engine,
            Clock(),
            recovery=None if mode == "plain" else RECOVERY,
            lost=self.old.verify_key if mode == "lost" else None,
        )

    def open(self, key: SigningKey) -> Log:
        return Log(self.engine, key, self.settings.log_folder, Clock())

    def waiting(self) -> VerifyKey | None:
        path = waiting_path(self.settings.log_key)
        return SigningKey.load(path).verify_key if path.exists() else None

    def present(self) -> VerifyKey | None:
        path = self.settings.log_key
        return SigningKey.load(path).verify_key if path.exists() else None

    def check(self) -> None:
        """Nothing is broken: a key in its place, one history, at most one successor."""
        notes = kept_successions(self.settings.log_folder)
        assert len(notes) <= 1
        policy = Policy((self.old.verify_key,), recovery=(RECOVERY.verify_key,))
        policy = policy.following(notes)
        assert policy.open_checkpoint(self.shown)
        key = SigningKey.load(self.settings.log_key) if self.settings.log_key.exists() else None
        if key is None:
            return
        if notes and key.verify_key == self.old.verify_key:
            with pytest.raises(LogError, match="was retired"):
                self.open(key)
        else:
            trusted = policy.open_checkpoint(self.open(key).checkpoint())
            before = open_checkpoint(self.shown, self.old.verify_key)
            assert (trusted.checkpoint.size, trusted.checkpoint.root) == (before.size, before.root)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Data]:
    settings = Settings(folder=tmp_path_factory.mktemp("data"))
    with running(settings, None, Clock()) as context:
        shown = context.log.checkpoint()
    engine = open_database(settings.where)
    yield Data(settings, engine, SigningKey.load(settings.log_key), shown)
    engine.dispose()


@contextmanager
def power_cut(at: int, *, persisted: bool) -> Iterator[list[str]]:
    """Lose power at one write, before it reached the disk or after; yield the writes until then."""
    done: list[str] = []

    def counted(name: str, original: Callable[..., None]) -> Callable[..., None]:
        def write(*args: object, **kwargs: object) -> None:
            done.append(name)
            if len(done) == at and not persisted:
                raise CrashError
            original(*args, **kwargs)
            if len(done) == at:
                raise CrashError

        return write

    with (
        patch.object(os, "fsync", counted("fsync", os.fsync)),
        patch.object(os, "fdatasync", counted("fdatasync", os.fdatasync)),
        patch.object(os, "replace", counted("replace", os.replace)),
    ):
        yield done


def broken_off(data: Data, mode: str, at: int, *, persisted: bool) -> bool:
    """Change the key and lose power; say whether it came to that."""
    try:
        with power_cut(at, persisted=persisted):
            data.change(mode)
    except CrashError:
        return True
    return False


@pytest.mark.parametrize("persisted", [False, True], ids=["lost", "done"])
@pytest.mark.parametrize("mode", ["plain", "stolen", "lost"])
def test_power_may_go_out_at_any_write(
    original: Data, tmp_path: Path, mode: str, *, persisted: bool
):
    at, ended = 0, False
    while not ended:
        at += 1
        data = original.copy(tmp_path / str(at))
        if mode == "lost":
            data.settings.log_key.unlink()
        ended = not broken_off(data, mode, at, persisted=persisted)
        data.check()
        waiting, present = data.waiting(), data.present()
        if present not in (None, data.old.verify_key):
            # It was all done, and only nobody was told; once more would be another change.
            continue
        # The next run loses power as well, at its second write.
        assert broken_off(data, mode, 2, persisted=persisted)
        data.check()
        change = data.change(mode) if data.present() in (None, data.old.verify_key) else None
        data.check()
        new = SigningKey.load(data.settings.log_key).verify_key
        assert waiting in (None, new)
        (note,) = kept_successions(data.settings.log_folder)
        assert split_unverified(note).new == new
        assert change is None or change.file.read_bytes() == note
        assert data.waiting() is None
    # Key made and renamed, checkpoint, succession, checkpoint again, key in its place.
    assert at > 10


def test_each_change_is_a_change_of_its_own(original: Data, tmp_path: Path):
    data = original.copy(tmp_path / "data")
    first, second = data.change(), data.change()
    assert second.succession.old == first.succession.new
    assert not first.resumed
    policy = Policy.of(data.old.verify_key).following(kept_successions(data.settings.log_folder))
    log = data.open(SigningKey.load(data.settings.log_key))
    assert policy.open_checkpoint(log.checkpoint()).key == second.succession.new
    assert policy.open_checkpoint(data.shown).key == data.old.verify_key


def test_a_log_that_runs_keeps_its_key(original: Data, tmp_path: Path):
    data = original.copy(tmp_path / "data")
    with only_writer(data.settings.log_folder), pytest.raises(LogError, match="another process"):
        data.change()
    assert kept_successions(data.settings.log_folder) == ()
    assert data.waiting() is None
    # Nor do two services run over one folder.
    shutil.copyfile(original.settings.database_file, data.settings.database_file)
    settings = data.settings
    with running(settings, None, Clock()):
        with pytest.raises(LogError, match="another process"), running(settings, None, Clock()):
            pass
        with pytest.raises(LogError, match="another process"):
            data.change()
    assert data.change()


def test_a_stolen_key_is_replaced_by_both(original: Data, tmp_path: Path):
    data = original.copy(tmp_path / "data")
    note = data.change("stolen").file.read_bytes()
    # Who knows no recovery key believes the old one's signature.
    assert Policy.of(data.old.verify_key).following([note]).tenures[0].successor
    careful = Policy((data.old.verify_key,), recovery=(RECOVERY.verify_key,)).following([note])
    assert careful.tenures[0].recovered


def test_a_lost_key_takes_a_recovery_key(original: Data, tmp_path: Path):
    data = original.copy(tmp_path / "data")
    data.settings.log_key.unlink()
    for arguments in ({}, {"recovery": RECOVERY}, {"lost": data.old.verify_key}):
        with pytest.raises(KeyMissingError, match="is missing"):
            change_log_key(data.settings, data.engine, Clock(), **arguments)
    wrong = SigningKey.from_seed(NAME, b"w" * 32)
    with pytest.raises(LogError, match="not a checkpoint of this log's key"):
        change_log_key(
            data.settings, data.engine, Clock(), recovery=RECOVERY, lost=wrong.verify_key
        )
    waiting_path(data.settings.log_key).unlink()
    foreign = SigningKey.from_seed("other.example/log", b"f" * 32)
    with pytest.raises(NoteError, match="bears its log's name"):
        change_log_key(
            data.settings, data.engine, Clock(), recovery=foreign, lost=data.old.verify_key
        )
    assert kept_successions(data.settings.log_folder) == ()
    assert data.change("lost")


def test_a_new_key_that_was_lost_is_not_replaced_by_a_third(original: Data, tmp_path: Path):
    data = original.copy(tmp_path / "data")
    with (
        patch("marketplace.log_key_change.take_over", side_effect=CrashError),
        pytest.raises(CrashError),
    ):
        data.change()
    waiting = waiting_path(data.settings.log_key)
    kept = waiting.read_bytes()
    waiting.unlink()
    for _ in range(2):
        with pytest.raises(KeyMissingError, match="restore it from the backup"):
            data.change()
    assert len(kept_successions(data.settings.log_folder)) == 1
    waiting.write_bytes(kept)
    waiting.chmod(0o600)
    assert data.change().resumed


def test_half_a_key_is_thrown_away(original: Data, tmp_path: Path):
    data = original.copy(tmp_path / "data")
    draft = data.settings.log_key.with_name("signing.key.draft")
    draft.write_text("rongshu.loc")
    assert data.change()
    assert not draft.exists()
