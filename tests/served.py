"""A small market on disk, and a real `rongshu serve` over it, for tests of the commands.

folder = small_market(tmp_path / "market", uses=5)       # three parties, agreed; nobody serves
with serving("--embedded", folder) as served:            # a process of its own
    served.address, served.log_key
    rongshu("job", "list", "--home", home(folder, "lab"))        # another process
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ledger.cli import run_command
from ledger.terms import Terms
from marketplace.client import Provider, Researcher, now_ms

ROOT = Path(__file__).resolve().parents[1]
PURPOSE = "heart research"
TABLES = {
    "North": "age,chol\n50,200\n61,250\n43,180\n70,300\n55,\n39,210\n",
    "South": "age,chol\n51,210\n65,251\n44,190\n71,290\n56,222\n",
}
YEAR_MS = 365 * 24 * 3600 * 1000
# The commands of this checkout, whichever version is installed, if one is.
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
    "rongshu.commands"
]
PROGRAM = """\
import sys
from importlib import metadata
from ledger.cli import run_command
name, target = sys.argv[1:3]
sys.exit(run_command(metadata.EntryPoint(name, target, "rongshu.commands"), sys.argv[3:]))
"""


def entry(name: str) -> metadata.EntryPoint:
    return metadata.EntryPoint(name, COMMANDS[name], "rongshu.commands")


def argv_of(*words: object) -> list[str]:
    name, *rest = (str(word) for word in words)
    return [sys.executable, "-c", PROGRAM, name, COMMANDS[name], *rest]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def rongshu(*words: object, code: int = 0, cwd: Path | None = None) -> str:
    """Run a command in a process of its own; return what it printed."""
    ran = subprocess.run(
        argv_of(*words),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=cwd,
        env=environment(),
    )
    assert ran.returncode == code, f"{words}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout if code == 0 else ran.stderr


def rongshu_json(*words: object) -> Any:
    return json.loads(rongshu(*words, "--json"))


def home(folder: Path, name: str) -> Path:
    return folder / "parties" / name.lower()


def node(folder: Path, name: str) -> Path:
    return folder / "nodes" / name.lower()


def small_market(folder: Path, *, uses: int = 50, **settings: Any) -> Path:
    """Two providers with data and nodes, a researcher with an agreement on each, an auditor."""
    from marketplace.embedded import Embedded
    from marketplace.settings import Settings

    terms = Terms(
        tasks=("statistics", "encrypted_sum"),
        purposes=(PURPOSE,),
        recipients=("*",),
        uses=uses,
        until=now_ms() + YEAR_MS,
        exact=True,
        minimum_parties=2,
    )
    folder.mkdir(parents=True)
    with Embedded(folder, Settings(folder=folder / "service", **settings)) as market:
        researcher = Researcher(market.enrol("Lab", "researcher"), market.http())
        market.enrol("Auditor", "auditor")
        for name, table in TABLES.items():
            file = folder.parent / f"{name.lower()}.csv"
            file.write_text(table)
            provider = Provider(market.enrol(name, "provider"), market.http())
            asset = market.add_node(provider.home, file, {"header": True}, cost_cents=100_00).asset
            offer_id = provider.offer(asset, terms, 12_00)
            (offer,) = researcher.call("GET", f"/offers?asset={asset}")
            assert offer["id"] == offer_id
            negotiation = researcher.negotiate(offer, {})
            provider.agree_by_rule()
            researcher.countersign(negotiation)
    return folder


@dataclass
class Served:
    """A running `rongshu serve`."""

    process: subprocess.Popen[str]
    address: str
    log_key: str

    def stop(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)


@contextmanager
def serving(*words: object) -> Iterator[Served]:
    """Run `rongshu serve` on a free port of this machine until the end of the block."""
    process = subprocess.Popen(
        argv_of("serve", *words, "--port", "0", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, errors = process.communicate(timeout=60)
            raise AssertionError(errors)
        told = json.loads(line)
        served = Served(process, told["address"], told["log_key"])
        yield served
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def run_here(*words: object, code: int = 0, errors: bool = True) -> str:
    """Run a command in this process, for speed; the service stays in its own.

    Returns:
        What it printed; with an exit code other than 0 what it complained of, unless not `errors`.
    """
    out, complaints = io.StringIO(), io.StringIO()
    name, *rest = (str(word) for word in words)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
        try:
            found = run_command(entry(name), rest)
        except SystemExit as ended:
            found = ended.code if isinstance(ended.code, int) else 1
    assert found == code, f"{words}: {found}\n{out.getvalue()}\n{complaints.getvalue()}"
    return complaints.getvalue() if code and errors else out.getvalue()
