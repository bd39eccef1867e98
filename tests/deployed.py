"""A market as it is deployed, for tests: real processes, TLS on loopback, three providers.

with open_town(tmp_path, TABLES) as town:        # service, SuperLink and three nodes run
    job = town.run("statistics", columns=["chol"])   # granted by the nodes' own processes, released
    town.market.service.pid                      # the operator's process
    superlink_of(town.market.service.pid)        # its child

Everything is waited for by its own sign, a process's end by its file descriptor (Linux).
"""

import csv
import io
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from federated import certificates
from federated.errors import NodeError
from federated.node.home import NodeHome
from federated.superlink import tied
from ledger.journal_check import check_journal
from ledger.terms import Terms
from ledger.verify import verify
from marketplace.client import ENDED, Provider, Researcher, now_ms
from marketplace.processes import Process, Processes, RemoteNode
from marketplace.settings import Settings

PURPOSE = "research"
PREPARATION: dict[str, Any] = {}
YEAR_MS = 365 * 24 * 3600 * 1000
TABLES = {
    "north": "age,chol\n50,200\n61,250\n43,180\n70,300\n52,233\n66,241\n",
    "south": "age,chol\n51,210\n65,251\n44,190\n71,290\n56,222\n",
    "west": "age,chol\n47,205\n59,239\n68,275\n41,188\n63,226\n",
}
FOUR = TABLES | {"east": "age,chol\n49,215\n58,244\n62,261\n45,199\n"}
"""As many as are needed for one to leave."""

STEPS = ("keys", "moments", "survivors", "unmask", "spread", "finish")
"""Of a job of the task `statistics`, as its progress names them."""


def until(
    seen: Callable[[], object], what: str | Callable[[], object], seconds: float = 60.0
) -> None:
    """Wait until something is so; fail where it does not become so, and say `what`."""
    end = time.monotonic() + seconds
    while not seen():
        told = "" if time.monotonic() < end else what if isinstance(what, str) else what()
        assert time.monotonic() < end, f"not within {seconds:g} s: {told}"
        time.sleep(0.05)


def ended(pid: int, seconds: float = 20.0) -> bool:
    """Wait until a process, whosever child it is, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def children(pid: int) -> dict[int, str]:
    """Return the children of a process with their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if int(parent) == pid:
            found[int(folder.name)] = line
    return found


def superlink_of(pid: int) -> int | None:
    """Return the pid of a service's SuperLink; None while there is none."""
    found = [child for child, line in children(pid).items() if "flower-superlink" in line]
    assert len(found) <= 1
    return found[0] if found else None


def listening(pid: int) -> set[tuple[str, int]]:
    """Return address, as the kernel writes it, and port of what a process listens on."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(each.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                address, _, port = words[1].partition(":")
                found.add((address, int(port, 16)))
    return found


class Crooked(Process):
    """One program of ours in which one thing is wrong; see `tests.crooked` for what may be."""

    def __init__(self, how: str, arguments: list[str], log: Path) -> None:
        self._log = log
        program = [sys.executable, str(Path(__file__).with_name("crooked.py")), how, *arguments]
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [*tied.to_this(), *program],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


@dataclass
class Town:
    """A deployed market with a researcher who has an agreement with each provider."""

    market: Processes
    researcher: Researcher
    providers: dict[str, Provider] = field(default_factory=dict)
    nodes: dict[str, RemoteNode] = field(default_factory=dict)
    agreements: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The operator's data folder."""
        return self.market.folder / "service"

    @property
    def ca(self) -> Path:
        return self.data / "tls" / certificates.CA

    def pid(self) -> int:
        assert self.market.service is not None
        return self.market.service.pid

    def superlink(self, but: int | None = None) -> int:
        """Wait for the service's SuperLink, or for another one than before; return its pid."""
        found: list[int] = []

        def seen() -> bool:
            pid = superlink_of(self.pid())
            found[:] = [] if pid in (None, but) else [pid]
            return bool(found)

        until(seen, "a SuperLink")
        return found[0]

    def join(self, name: str, file: Path, terms: Terms, **rest: Any) -> RemoteNode:
        """Enrol a provider with data, offer them, and agree with the researcher."""
        provider = Provider(self.market.enrol(name, "provider"), self.market.http())
        node = self.market.add_node(provider.home, file, {"header": True}, cost_cents=100_00)
        offer_id = provider.offer(node.asset, terms, 12_00)
        (offer,) = [
            each
            for each in self.researcher.call("GET", f"/offers?asset={node.asset}")
            if each["id"] == offer_id
        ]
        negotiation = self.researcher.negotiate(offer, rest.get("preparation", PREPARATION))
        provider.agree_by_rule()
        self.agreements[node.asset] = self.researcher.countersign(negotiation)
        self.providers[name], self.nodes[name] = provider, node
        return node

    def submit(self, task: str = "statistics", **rest: Any) -> str:
        preparation = rest.pop("preparation", PREPARATION)
        return self.researcher.submit_job(
            name=task,
            task=task,
            parameters=rest or {"columns": ["age", "chol"]},
            preparation=preparation,
            purpose=PURPOSE,
            agreements=self.agreements,
        )

    def wait(self, job: str, seconds: float = 120.0) -> dict[str, Any]:
        """Wait until a job has ended; return its view."""
        seen: dict[str, Any] = {}

        def over() -> bool:
            seen.update(self.researcher.job(job))
            return seen["state"] in ENDED

        until(over, lambda: f"the end of {seen}: {self.said()}", seconds)
        return seen

    def run(self, task: str = "statistics", seconds: float = 120.0, **rest: Any) -> str:
        """Let a job run to its release; return its id."""
        job = self.submit(task, **rest)
        view = self.wait(job, seconds)
        assert view["state"] == "released", (view, self.said())
        return job

    def state(self, name: str) -> str:
        """What the operator says of a provider's node."""
        found = self.providers[name].call("GET", "/nodes")
        return str(found[0]["state"])

    def said(self) -> dict[str, str]:
        """The last of what each program wrote."""
        files = [self.data / "serve.log", self.data / "superlink" / "superlink.log"]
        files += [node.home.folder / "node.log" for node in self.nodes.values()]
        return {str(file): file.read_text()[-2000:] for file in files if file.exists()}

    def connections(self, name: str) -> int:
        """How often a node has said that it is connected."""
        return (self.nodes[name].home.folder / "node.log").read_text().count("connected\n")

    def restart(self, name: str, how: str = "") -> None:
        """Kill a node's process, start another one, and wait until that has connected.

        Args:
            name: of its provider.
            how: what is wrong with the new process; see `tests.crooked`.
        """
        node, before = self.nodes[name], self.connections(name)
        node.process.popen.kill()
        node.process.popen.wait()
        if how:
            folder = node.home.folder
            node.process = Crooked(how, ["node", "run", str(folder)], folder / "node.log")
        else:
            node.start()
        until(lambda: self.connections(name) > before, lambda: f"{name} connects: {self.said()}")

    @contextmanager
    def crooked(self, how: str, *names: str) -> Iterator[None]:
        """Let nodes be processes in which something is wrong; see `tests.crooked`."""
        for name in names:
            self.restart(name, how)
        try:
            yield
        finally:
            for name in names:
                self.restart(name)

    @contextmanager
    def reached_by(self, address: str, *names: str) -> Iterator[None]:
        """Let nodes find the service at another address; see `tests.relays`."""
        for name in names:
            self._move(name, address)
        try:
            yield
        finally:
            for name in names:
                self._move(name, self.market.address)

    @contextmanager
    def served_with(self, **settings: Any) -> Iterator[None]:
        """Let the service run with other settings."""
        usual = self.market._settings
        self._serve_with(replace(usual, **settings))
        try:
            yield
        finally:
            self._serve_with(usual)

    def _serve_with(self, settings: Settings) -> None:
        self.market.stop_service()
        self.market._settings = settings
        self.market.start_service()
        until(self.all_are_alive, "all nodes")

    def all_are_alive(self) -> bool:
        """Whether the operator has heard of every node."""
        return all(self.state(name) == "alive" for name in self.nodes)

    def _move(self, name: str, address: str) -> None:
        home = NodeHome.load(self.nodes[name].home.folder)
        replace(home, settings=replace(home.settings, service=address))._save()
        self.restart(name)

    def uses(self, kind: str) -> dict[str, int]:
        """How many uses are `reserved`, `spent` or `left` under the agreement on each asset."""
        found = self.researcher.call("GET", "/agreements")
        return {each["asset"]: each[f"uses_{kind}"] for each in found}

    def must_be_well(self) -> None:
        """Everybody is there, or is started; no use is left over; the ledger is sound."""
        for node in self.nodes.values():
            if node.process.popen.poll() is not None:
                node.start()
        until(self.all_are_alive, lambda: f"all: {self.said()}")
        until(lambda: not sum(self.uses("reserved").values()), "no use is left over", 60.0)
        self.market.keep_books()
        export = self.market.folder / f"export-{time.monotonic_ns()}"
        self.market.export(export)
        verdict = verify(export, self.market.log_key)
        assert (verdict.status, list(verdict.findings)) == ("sound", [])

    def journals_must_agree(self) -> None:
        """Nothing is under way at any node any more, and its journal and the log tell one story."""
        for name in self.nodes:
            until(
                partial(self._accounts_for_all, name),
                lambda: f"every job that was launched has ended: {self.said()}",
            )

    def _accounts_for_all(self, name: str) -> bool:
        log = self.researcher.log
        data, _ = self.nodes[name].home.signed_journal(now_ms)
        log.sync()
        account = check_journal(log.history, data, name)
        assert account.findings == []
        return set(account.ended) >= account.launched

    def post(self, path: str, **rest: Any) -> httpx.Response:
        """Send a request to the service's address, without credentials."""
        return self.market.http().post(path, **rest)


def expected(names: tuple[str, ...]) -> dict[str, Any]:
    """Count and mean of each column over the rows of these providers."""
    rows = [row for name in names for row in csv.DictReader(io.StringIO(FOUR[name]))]
    found = {}
    for column in ("age", "chol"):
        values = [float(row[column]) for row in rows]
        found[column] = (len(values), pytest.approx(sum(values) / len(values), rel=1e-12))
    return found


def answer(town: Town, job: str) -> dict[str, Any]:
    """What the researcher got, after adding it up once more."""
    result = town.researcher.result(job)
    return {column: (found["count"], found["mean"]) for column, found in result.items()}


def at(town: Town, job: str, step: str, then: Callable[[], None]) -> None:
    """Do something as soon as a job is seen at a step or beyond it, or, at the last, ended."""

    def seen() -> bool:
        view = town.researcher.job(job)
        if view["state"] in ENDED:
            # The last step is over almost when it can be seen.
            assert step == STEPS[-1], view
            return True
        now = view["progress"].get("step")
        return now in STEPS and STEPS.index(now) >= STEPS.index(step)

    until(seen, f"step {step}")
    then()


def party(town: Town, view: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in view["parties"] if each["asset"] == town.nodes[name].asset]
    return dict(found)


def terms_of(**changes: Any) -> Terms:
    usual: dict[str, Any] = {
        "tasks": ("statistics", "logistic", "encrypted_sum"),
        "purposes": (PURPOSE,),
        "recipients": ("*",),
        "uses": 50,
        "until": now_ms() + YEAR_MS,
        "exact": True,
        "minimum_parties": 2,
    }
    return Terms(**(usual | changes))


@contextmanager
def open_town(
    folder: Path,
    tables: Mapping[str, str],
    preparation: Mapping[str, Any] = PREPARATION,
    **settings: Any,
) -> Iterator[Town]:
    """Start a market with one provider for each table; its processes end with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    service = Settings(folder / "market" / "service", **settings)
    with Processes(folder / "market", service) as market:
        town = Town(market, Researcher(market.enrol("Lab", "researcher"), market.http()))
        for name, table in tables.items():
            file = folder / f"{name}.csv"
            file.write_text(table)
            town.join(name, file, terms_of(), preparation=preparation)
        try:
            # A test may end a node, or start another in its place, at once.
            until(town.all_are_alive, lambda: f"all nodes: {town.said()}")
            yield town
        except NodeError as error:
            raise AssertionError(f"{error}\n{town.said()}") from error
