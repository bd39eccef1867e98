"""Runs the auditor's check of an export in a process of its own, and measures it."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
import json, sys, time
from pathlib import Path
from ledger.collector import look_seldom
from ledger.keys import VerifyKey
from ledger.verify import Plan, verify

look_seldom()
start = time.perf_counter()
plan = Plan(structure_only=sys.argv[3] == "structure", processes=int(sys.argv[4]))
verdict = verify(Path(sys.argv[1]), VerifyKey.from_text(sys.argv[2]), plan)
print(json.dumps([time.perf_counter() - start, verdict.status]))
"""
LOOK = 0.05  # seconds between two looks at the memory in use
PAGE_KB = 4


@dataclass(frozen=True)
class Check:
    """One check: seconds without starting Python, and the most memory of all its processes, MB.

    The memory is the sum of resident sets, so what forked processes share counts for each.
    """

    seconds: float
    peak: float


def check(folder: Path, key: str, what: str, processes: int) -> Check:
    """Verify an export, all of it or its `structure`.

    Raises:
        RuntimeError: it is not what was expected.
    """
    command = [sys.executable, "-c", SCRIPT, str(folder), key, what, str(processes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(LOOK)
        answer = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"the check of {folder} ended with {process.returncode}")
    seconds, status = json.loads(answer)
    if status != ("structure" if what == "structure" else "sound"):
        raise RuntimeError(f"the export is {status}")
    return Check(seconds, peak / 1024)


def _resident(process: int) -> int:
    """Return the kilobytes that a process and its children hold now."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (OSError, IndexError):
        return 0  # it has just ended
    return pages * PAGE_KB + sum(_resident(int(child)) for child in children)
