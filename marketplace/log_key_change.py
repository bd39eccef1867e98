"""Changes the log's key while the service stands still, so that a crash at any point is harmless.

    change = change_log_key(settings, engine, now_ms)                     # the present key signs
    change = change_log_key(settings, engine, now_ms, recovery=key)       # it was stolen
    change = change_log_key(settings, engine, now_ms, recovery=key, lost=verify_key)  # or lost

In this order; whoever runs it again after a crash goes on with the same new key:

1. the new key is made beside the old one (`….new`), durably;
2. what waits for the log is logged, and the newest checkpoint signed by the old key;
3. the succession is written to the log's folder: *from here the log has the new key*, and starts
   with no other. A second one of the old key is never made;
4. the log is opened under the new key, which signs the same tree;
5. the new key takes the old one's place.

The old key serves nobody from then on but a thief: towards those who have not seen the succession.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ledger.keys import SigningKey, VerifyKey
from ledger.log import Log
from ledger.manifest import SUCCESSION, numbered_path
from ledger.publisher import kept_successions, only_writer, recover, succession_of
from ledger.succession import Succession, split_unverified
from marketplace.errors import KeyMissingError
from marketplace.new_key import take_over, waiting_key, waiting_path
from marketplace.settings import Settings


@dataclass(frozen=True)
class LogKeyChange:
    """A change of the log's key that is durable.

    Attributes:
        succession: the tree at which the keys change, and both keys.
        file: the signed note, to be handed to auditors.
        resumed: whether an earlier run had signed it, and this one finished its work.
    """

    succession: Succession
    file: Path
    resumed: bool


def change_log_key(
    settings: Settings,
    engine: sa.Engine,
    clock: Callable[[], int],
    *,
    recovery: SigningKey | None = None,
    lost: VerifyKey | None = None,
) -> LogKeyChange:
    """Give the log a new key, or finish a change that was interrupted.

    Args:
        settings: of the service.
        engine: its database.
        clock: returns Unix milliseconds.
        recovery: the log's recovery key, whose verifier key readers were given beforehand. It signs
            beside the present key, or alone where that is lost.
        lost: the present key, whose file is gone.

    Raises:
        KeyMissingError: a key file is missing, and what is there cannot replace it.
        InvalidKeyError: a key file must not be used.
        LogError: a process writes to the log, the database is not the newest, or nothing was
            signed under this key yet.
        NoteError: the recovery key is of another log, or is the log's own.
        OSError: the disk refuses; run it again.
    """
    folder, path = settings.log_folder, settings.log_key
    with only_writer(folder):
        old = SigningKey.load(path) if path.exists() else None
        known = old.verify_key if old is not None else _retired(settings) or lost
        if known is None:
            raise KeyMissingError(
                f"{path} is missing: restore it from the backup, or name the lost key and give the "
                "log's recovery key"
            )
        done = succession_of(folder, known)
        new = _new_key(path, known, done)
        if done is None:
            if old is not None:
                _hand_over(settings, engine, clock, old, new, recovery)
            elif recovery is not None:
                recover(folder, known, new, [recovery])
            else:
                raise KeyMissingError(
                    f"{path} is missing: only the log's recovery key can name the next one"
                )
        # The new key signs this very tree; what is wrong with the database shows here.
        Log(engine, new, folder, clock).stop()
        take_over(path)
        return _change(settings, known, resumed=done is not None)


def _new_key(path: Path, old: VerifyKey, done: Succession | None) -> SigningKey:
    if done is None:
        return waiting_key(path, old.name)
    waiting = waiting_path(path)
    if not waiting.exists() or SigningKey.load(waiting).verify_key != done.new:
        # Another key would need a second succession, and readers refuse two.
        raise KeyMissingError(
            f"the log's key was changed to {done.new.text}, and {waiting} does not hold that key: "
            f"restore it from the backup, there or as {path}"
        )
    return SigningKey.load(waiting)


def _hand_over(
    settings: Settings,
    engine: sa.Engine,
    clock: Callable[[], int],
    old: SigningKey,
    new: SigningKey,
    recovery: SigningKey | None,
) -> None:
    # Without witnesses: what they cosigned stays shown until they know the new key.
    log = Log(engine, old, settings.log_folder, clock)
    try:
        if recovery is None:
            log.hand_over(new)
        else:
            log.sequence()
            recover(settings.log_folder, old.verify_key, new, [old, recovery])
    finally:
        log.stop()


def _retired(settings: Settings) -> VerifyKey | None:
    """Return the lost key that the waiting one followed in an interrupted run."""
    waiting = waiting_path(settings.log_key)
    if not waiting.exists():
        return None
    new = SigningKey.load(waiting).verify_key
    found = map(split_unverified, kept_successions(settings.log_folder))
    return next((item.old for item in found if item.new == new), None)


def _change(settings: Settings, old: VerifyKey, *, resumed: bool) -> LogKeyChange:
    notes = kept_successions(settings.log_folder)
    number = next(n for n, data in enumerate(notes) if split_unverified(data).old == old)
    file = settings.log_folder / numbered_path(SUCCESSION, number)
    return LogKeyChange(split_unverified(notes[number]), file, resumed)
