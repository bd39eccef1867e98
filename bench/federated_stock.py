"""Times one train exchange of stock Flower: SuperLink, SuperNodes and FedAvg as they are shipped.

    exchange = train_exchange(rounds=5, say=print)
    exchange.seconds            # median of the rounds

Servers are on loopback with TLS, SuperNodes have keys that were registered, apps run in processes
of their own, and nothing is installed. The app stands in `bench/stock`.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.federated_keys import write_certificates, write_node_key

APP = Path(__file__).parent / "stock"
# Training rows of the four hospitals of examples/hospitals, after its preparation.
ROWS = (199, 172, 30, 85)
START_SECONDS = 120.0
ROUND_SECONDS = 90.0
END_SECONDS = 10.0
LOOK = 0.1


class StockError(RuntimeError):
    """Stock Flower did not do what it was started for."""


@dataclass(frozen=True)
class Exchange:
    """Stock train exchanges: from handing the messages over until all replies were there.

    Attributes:
        rounds: seconds of each, in their order; the first loads the app at every node.
        start: seconds from the first program's start until the first exchange began.
    """

    rounds: tuple[float, ...]
    start: float

    @property
    def seconds(self) -> float:
        """The median of all but the first."""
        return median(self.rounds[1:] or self.rounds)


def train_exchange(rounds: int = 5, say: Callable[[str], None] = lambda _: None) -> Exchange:
    """Start stock Flower, run so many rounds over four nodes, and end it.

    Args:
        rounds: how many; each takes seconds.
        say: told what is being waited for.

    Raises:
        StockError: a program ended, or was not ready in time; its last words are in the message.
    """
    # What a program still writes while it ends may keep the folder from being emptied.
    folder = tempfile.TemporaryDirectory(prefix="rongshu-stock-", ignore_cleanup_errors=True)
    with folder as name, contextlib.ExitStack() as on:
        stock = _Stock(Path(name))
        begun = time.perf_counter()
        say("stock Flower: SuperLink starts")
        link = on.enter_context(stock.superlink())
        stock.wait_until_open(link)
        for number, rows in enumerate(ROWS, start=1):
            say(f"stock Flower: SuperNode {number} of {len(ROWS)} starts")
            on.enter_context(stock.supernode(number, rows))
        times = stock.run(rounds)
        found: list[float] = []
        waited = time.perf_counter()
        limit = START_SECONDS
        while len(found) < rounds:
            if len(seen := _read(times)) > len(found):
                if not found:
                    start = time.perf_counter() - begun - seen[0]
                found, waited, limit = seen, time.perf_counter(), ROUND_SECONDS
                say(f"stock Flower: round {len(found)} of {rounds}, {found[-1]:.1f} s")
            link.check()
            if time.perf_counter() - waited > limit:
                raise StockError(f"round {len(found) + 1} was not done in {limit:g} s; {link.last}")
            time.sleep(LOOK)
    return Exchange(tuple(found), start)


def _read(times: Path) -> list[float]:
    """The seconds of each round that the server app has noted by now."""
    if not times.exists():
        return []
    # A line without its end is still being written.
    lines = times.read_text(encoding="utf-8").split("\n")[:-1]
    noted = [json.loads(line) for line in lines]
    for number, each in enumerate(noted, start=1):
        if not each["complete"]:
            raise StockError(f"in round {number} not every node replied")
    return [float(each["seconds"]) for each in noted]


@dataclass(frozen=True)
class _Program:
    """A program that is running, and what it said."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def last(self) -> str:
        """Its last words, for an error's message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"{self.name} said last: " + " / ".join(lines[-5:])

    def check(self) -> None:
        """Raise StockError when it has ended."""
        if self.process.poll() is not None:
            raise StockError(f"{self.name} ended with {self.process.returncode}; {self.last}")


class _Stock:
    """Stock programs over one folder: keys, certificates, configuration and logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = Path(sys.executable).parent
        self._port = _free_port()
        self._address = f"127.0.0.1:{self._port}"
        self._tls = write_certificates(folder)
        home = folder / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "{self._address}"\n'
            f'root-certificates = "{self._tls.authority}"\n'
        )
        inherited = {
            name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
        }
        self._environment = {
            # Each message starts a process: none may have to compile Flower again.
            "PYTHONPYCACHEPREFIX": str(folder / "pycache"),
            **inherited,
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_HOME": str(home),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            # The programs start each other by name.
            "PATH": f"{self._programs}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def superlink(self) -> contextlib.AbstractContextManager[_Program]:
        """Start the SuperLink."""
        return self._start(
            "flower-superlink",
            *("--host", "127.0.0.1", "--port", str(self._port)),
            *("--ssl-certfile", str(self._tls.certificate)),
            *("--ssl-keyfile", str(self._tls.key)),
            *("--ssl-ca-certfile", str(self._tls.authority)),
            *("--database", str(self._folder / "superlink.sqlite")),
            *("--isolation", "subprocess"),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
        )

    def wait_until_open(self, link: _Program) -> None:
        """Wait until the SuperLink takes connections."""
        until = time.perf_counter() + START_SECONDS
        while time.perf_counter() < until:
            link.check()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            time.sleep(LOOK)
        raise StockError(f"the SuperLink was not ready in {START_SECONDS:g} s; {link.last}")

    def supernode(self, number: int, rows: int) -> contextlib.AbstractContextManager[_Program]:
        """Register a new key and start the SuperNode that has it."""
        key = write_node_key(self._folder, f"node{number}")
        self._command("supernode", "register", str(key.with_suffix(".pub")), "bench")
        return self._start(
            "flower-supernode",
            *("--superlink", self._address),
            *("--root-certificates", str(self._tls.authority)),
            *("--auth-supernode-private-key", str(key)),
            *("--host", "127.0.0.1", "--port", str(_free_port())),
            *("--isolation", "subprocess"),
            *("--node-config", f"seed={number} rows={rows}"),
            log=f"node{number}",
        )

    def run(self, rounds: int) -> Path:
        """Submit the app; return the file in which it notes the time of each round."""
        app, times = self._folder / "app", self._folder / "times"
        shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
        config = f'rounds={rounds} nodes={len(ROWS)} times="{times}"'
        self._command("run", str(app), "bench", "--run-config", config)
        return times

    def _command(self, *arguments: str) -> None:
        """Run one `flwr` command to its end."""
        try:
            done = subprocess.run(  # noqa: S603 - a program of this environment
                [str(self._programs / "flwr"), *arguments],
                env=self._environment,
                cwd=self._folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=START_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StockError(f"flwr {arguments[0]}: {error}") from error
        if done.returncode:
            raise StockError(f"flwr {arguments[0]}: {(done.stderr or done.stdout).strip()[-500:]}")

    @contextlib.contextmanager
    def _start(self, program: str, *arguments: str, log: str = "") -> Iterator[_Program]:
        """Start a program, and end it and what it started when the context is left."""
        path = self._folder / f"{log or program}.log"
        command: Sequence[str] = [str(self._programs / program), *arguments]
        with path.open("wb") as file:
            try:
                process = subprocess.Popen(  # noqa: S603 - a program of this environment
                    command,
                    env=self._environment,
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise StockError(f"{program} cannot be started: {error}") from error
        try:
            yield _Program(program, process, path)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program of ours, and whatever it started: apps have sessions of their own."""
    # By descriptors: a number could belong to somebody else by the time that it is used.
    started = []
    for number in _descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            started.append(os.pidfd_open(number))
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=END_SECONDS)
    process.kill()
    process.wait()
    for descriptor in started:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)


def _descendants(number: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    found = []
    for path in Path(f"/proc/{number}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has just ended
            found += [int(child) for child in path.read_text().split()]
    return found + [each for child in found for each in _descendants(child)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
