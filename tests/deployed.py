"""A market as it is deployed, for tests: real processes, TLS on loopback, three providers.

with open_town(tmp_path, TABLES) as town:        # service, SuperLink and three nodes run
    job = town.run("statistics", columns=["chol"])   # granted by the nodes' own processes, released
    town.market.service.pid                      # the operator's process
    superlink_of(town.market.service.pid)        # its child

Everything is waited for by its own sign, a process's end by its file descriptor (Linux).
"""

import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from federated import certificates
from federated.errors import NodeError
from ledger.terms import Terms
from marketplace.client import ENDED, Provider, Researcher, now_ms
from marketplace.processes import Processes, RemoteNode
from marketplace.settings import Settings

PURPOSE = "research"
PREPARATION: dict[str, Any] = {}
YEAR_MS = 365 * 24 * 3600 * 1000
TABLES = {
    "north": "age,chol\n50,200\n61,250\n43,180\n70,300\n52,233\n66,241\n",
    "south": "age,chol\n51,210\n65,251\n44,190\n71,290\n56,222\n",
    "west": "age,chol\n47,205\n59,239\n68,275\n41,188\n63,226\n",
}


def until(seen: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until something is so; fail where it does not become so."""
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
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

        until(over, f"the end of {job}: {seen.get('state')}", seconds)
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

    def post(self, path: str, **rest: Any) -> httpx.Response:
        """Send a request to the service's address, without credentials."""
        return self.market.http().post(path, **rest)


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
            yield town
        except NodeError as error:
            raise AssertionError(f"{error}\n{town.said()}") from error
