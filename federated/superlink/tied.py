"""Becomes another program that ends as soon as its parent does, however the parent ended.

    python tied.py PARENT PROGRAM ARGUMENT…

Without it a killed service would leave its SuperLink behind, holding the port and the database.
Only Linux can tie a process so; elsewhere the program runs untied, and a service manager ends it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def to_this() -> list[str]:
    """Return the beginning of a command whose process is tied to this one.

    On Linux it ends with the *thread* that starts it.
    """
    return [sys.executable, __file__, str(os.getpid())]


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program; does not return."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        # SIGKILL: whoever waits for connections to end would still hold the port.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the line above.
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - no shell, and the caller names the program


if __name__ == "__main__":
    main(sys.argv[1:])
