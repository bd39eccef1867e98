"""Lets a monitor read a log up to an earlier checkpoint, and another process go on from there."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.table import Row
from ledger.log import Log
from ledger.mirror import Mirror
from ledger.monitor import Monitor, Plan
from ledger.tiles import Tile
from ledger.trust import Policy

SCRIPT = """
import json, os, sys, time
from pathlib import Path
from ledger.collector import look_seldom
from ledger.keys import VerifyKey
from ledger.mirror import Mirror
from ledger.monitor import Monitor, Plan
from ledger.reconcile import NOTHING, reconcile
from ledger.source import FolderSource
from ledger.standing import standing
from ledger.trust import Policy

look_seldom()
policy = Policy.of(VerifyKey.from_text(sys.argv[3]))
start = time.perf_counter()
with Mirror(Path(sys.argv[2])) as mirror:
    monitor = Monitor(mirror, policy, Plan(os.cpu_count() or 1))
    loaded = time.perf_counter()
    report = monitor.look(FolderSource(Path(sys.argv[1]), policy))
    looked = time.perf_counter()
    result = reconcile(monitor.history, NOTHING, monitor.tally)
    monitor.keep_tally()
    verdict = standing(monitor, result, report)
    ended = time.perf_counter()
print(json.dumps([loaded - start, looked - loaded, ended - looked, verdict.size, verdict.status]))
"""


class _Earlier:
    """A log as a monitor would have read it under an earlier checkpoint."""

    def __init__(self, log: Log, signed: bytes) -> None:
        self._log = log
        self._signed = signed

    def close(self) -> None:
        """Nothing is open."""

    def successions(self) -> Sequence[bytes]:
        return ()

    def checkpoint(self) -> bytes:
        return self._signed

    def tile(self, tile: Tile) -> bytes:
        return self._log.tile(tile.path)

    def openings(self, start: int, stop: int) -> dict[int, bytes]:
        return {item.index: item.to_bytes() for item in self._log.openings(start, stop)}

    def sealed(self, _start: int, _stop: int) -> dict[int, bytes]:
        return {}

    def declared(self, start: int, stop: int) -> set[int]:
        return set(range(start, stop))

    def attachments(self, _name: str) -> dict[str, bytes]:
        return {}


def first_look(state: Path, log: Log, signed: bytes) -> float:
    """Let a monitor read the log up to an earlier checkpoint; return the seconds."""
    start = time.perf_counter()
    with Mirror(state) as mirror:
        monitor = Monitor(mirror, Policy.of(log.vkey), Plan(os.cpu_count() or 1))
        monitor.look(_Earlier(log, signed))
    return time.perf_counter() - start


def resume(target: Path, state: Path, log: Log, first: float) -> Row:
    """Let a new process go on from there, and see what it spends its time with."""
    command = [sys.executable, "-c", SCRIPT, str(target), str(state), log.vkey.text]
    answers = []
    for _ in range(2):
        answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        answers.append(json.loads(answer.stdout))
    (loaded, looked, reconciled, size, status), again = answers
    if (size, status) != (log.size, "sound"):
        raise RuntimeError(f"the monitor read {size} entries and calls them {status}")
    return Row(
        "resume",
        loaded + looked + reconciled,
        "s",
        first,
        {
            "entries": float(size),
            "load": loaded,
            "new part": looked,
            "reconcile": reconciled,
            "nothing new": sum(again[:3]),
        },
    )
