"""Runs a command of Rongshu in a process where one thing is not as it should be.

    python tests/crooked.py clock=600 node run FOLDER       # ten minutes fast, by all its clocks
    python tests/crooked.py forgetful node run FOLDER       # answers as if it had never answered

A wrong clock is that of the process alone: what Python asks for the time of day. OpenSSL asks the
machine, and certificates are backdated by an hour.
"""

from __future__ import annotations

import functools
import runpy
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def wrong_clock(seconds: int) -> None:
    """Let every clock of this process that tells the time of day be wrong by so much."""
    from federated.superlink.fleet import Fleet

    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + seconds * 1_000_000_000

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)

    # It reads the machine's clock by itself; what it signs is the time.
    Fleet.__init__ = functools.partialmethod(Fleet.__init__, clock=now)  # type: ignore[method-assign]


def forgetful() -> None:
    """Let a node find no reply of its own again."""
    from federated.node.journal import Book

    Book.reply = lambda *_: None  # type: ignore[method-assign]


def main(how: str, arguments: list[str]) -> None:
    """Be crooked in one way, then run the command as `python -m ledger.cli` does."""
    sys.path[0] = str(ROOT)
    if how.startswith("clock="):
        wrong_clock(int(how.removeprefix("clock=")))
    else:
        forgetful()
    sys.argv = ["rongshu", *arguments]
    runpy.run_module("ledger.cli", run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
