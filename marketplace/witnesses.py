"""The log's witnesses: whom the operator asks, from its policy file, and how often.

    cosign = cosigner(settings, log_key.verify_key, clock)
    log = Log(engine, log_key, folder, clock, cosign=cosign)
    with kept_fresh(log, settings.cosign_seconds):
        ...

Decides nothing about trust: the policy does (`ledger.trust`), and `ledger.cosigning` asks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.cosigning import Cosigner
from ledger.errors import LedgerError
from ledger.keys import CosigningKey, VerifyKey
from ledger.log import Log
from ledger.publisher import kept_successions
from ledger.trust import MAX_BYTES, Policy
from marketplace.errors import SettingsError
from marketplace.settings import PREFIX, Settings

_log = logging.getLogger(__name__)


def cosigner(settings: Settings, key: VerifyKey, clock: Callable[[], int]) -> Cosigner | None:
    """Return what has the log's checkpoints cosigned; None where nobody is to be asked.

    Args:
        settings: name the policy file.
        key: the log's.
        clock: returns Unix milliseconds.

    Raises:
        SettingsError: the policy cannot be read, is not of this log, or cannot be met.
        InvalidKeyError: the log's second key is not safe, or not a key.
    """
    own = None
    if settings.second_log_key.exists():
        own = CosigningKey.load(settings.second_log_key)
    if not settings.witness_policy and own is None:
        return None
    variable = f"{PREFIX}WITNESS_POLICY"
    try:
        policy = Policy.of(key)
        if settings.witness_policy:
            with Path(settings.witness_policy).open("rb") as file:
                policy = Policy.parse(file.read(MAX_BYTES + 1))
            # Written under an older key of the log, it goes on with the next.
            policy = policy.following(kept_successions(settings.log_folder))
        if key not in [tenure.key for tenure in policy.tenures]:
            raise SettingsError(f"{variable}: the policy does not list this log: log {key.text}")
        return Cosigner(policy, lambda: clock() // 1000, own=own)
    except (LedgerError, OSError) as error:
        raise SettingsError(f"{variable}: {settings.witness_policy}: {error}") from error


@contextmanager
def kept_fresh(log: Log, seconds: float) -> Iterator[None]:
    """Have the log cosigned anew every few seconds; its readers ask how old its quorum is."""
    ending = threading.Event()

    def work() -> None:
        told = None
        while not ending.wait(seconds):
            try:
                log.refresh()
                found = log.cosigning_failure
            except (LedgerError, OSError) as error:
                # A full disk, perhaps: what is shown stays, and the next try may find room.
                found = str(error)
            if found != told:
                _log.warning("witnesses: %s", found or "the quorum is met again")
            told = found

    thread = threading.Thread(target=work, name="witnesses", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
