"""All roles on one machine: the service, its nodes and their parties below one folder.

    with Embedded(folder) as market:
        basel = market.enrol("Basel hospital", "provider")
        node = market.add_node(basel, Path("basel.csv"), {"header": True}, cost_cents=250_00)

Each role keeps its own folder and keys and speaks to the service with the bytes of HTTP. One
process is no trust boundary: who owns this machine can read every key and file on it. It shows how
the roles work together, and serves one owner with many data sets.

    service/             database, log, operator's keys
    parties/NAME/        a party's keys
    nodes/NAME/          a node's settings, key and journal
    address              where it is being served, while it is (`federated.address`)
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from fastapi import FastAPI

from federated.address import IN_PROCESS
from federated.coordinator import Grid
from federated.errors import FederatedError
from federated.grid import InProcessGrid, Tap, quieten_flower
from federated.lease import Lease
from federated.messages import Beside, read_request
from federated.node.client_app import seat
from federated.node.home import SETTINGS, NodeHome
from federated.node.runner import Node
from ledger.errors import LedgerError
from ledger.export import export
from ledger.keys import SigningKey, VerifyKey
from marketplace.app import create_app
from marketplace.client import Client, Home, Provider, now_ms
from marketplace.errors import MarketplaceError
from marketplace.jobs.grid_engine import GridEngine
from marketplace.listing import admit, list_node, make_node, slug
from marketplace.settings import Settings
from marketplace.transport import AppTransport

# How often nodes and providers look for what waits for them, seconds.
LOOK_INTERVAL = 0.5

_log = logging.getLogger(__name__)


class Embedded:
    """A whole marketplace below one folder.

    Args:
        folder: made when it does not exist; holds everything.
        settings: of the service; by default those of the environment.
        clock: returns Unix milliseconds.
        tap: sees every serialised message between coordinator and nodes.
        address: where somebody serves `app`; parties and nodes then speak to it over the network
            instead of in the process.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings | None = None,
        clock: Callable[[], int] = now_ms,
        tap: Tap | None = None,
        address: str = "",
    ) -> None:
        quieten_flower()
        self.folder = folder
        self.address = address
        self.clock = clock
        self.nodes: dict[str, Node] = {}
        self._tap = tap
        self._runs = itertools.count(1)
        self._settings = settings or Settings.load(folder / "service")
        self._engine = GridEngine(self._open_grid)
        self.app: FastAPI = create_app(self._settings, engine=self._engine, clock=clock)
        self._transport = AppTransport(self.app)
        self._exits = ExitStack()
        self._clients = ExitStack()
        self._providers: dict[Path, Provider] = {}
        self._folders: dict[str, Path] = {}
        self._complaints: dict[str, str] = {}
        self._looking: threading.Thread | None = None
        self._opening = threading.Lock()
        self._leaving = threading.Event()

    def __enter__(self) -> Self:
        """Start the service and open every node in the folder."""
        self._exits.enter_context(self._transport)
        self.open_nodes()
        # Over an address nobody answers yet; there the first look does it.
        for asset, node in self.nodes.items() if not self.address else ():
            with self._reported(asset):
                node.keep_books()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Stop looking for work, then the service."""
        self._leaving.set()
        if self._looking is not None:
            self._looking.join()
        # The service ends after the job under way, whose nodes need their clients until then.
        self._exits.close()
        self._clients.close()

    @property
    def log_key(self) -> VerifyKey:
        """The log's verifier key: what an auditor needs from outside the export."""
        return SigningKey.load(self._settings.log_key).verify_key

    def http(self) -> httpx.Client:
        """Return a new client of the service, without credentials."""
        client = httpx.Client(
            transport=None if self.address else self._transport,
            base_url=self.address or IN_PROCESS,
            timeout=120.0,
        )
        self._clients.callback(client.close)
        return client

    def enrol(self, name: str, role: str) -> Home:
        """Make a party's folder and enrol it; the operator issues the code for it."""
        home = Home.create(self.party_folder(name), name, IN_PROCESS, self.log_key)
        client = Client(home, self.http(), self.clock)
        admit(client, role, self.http(), self._settings.operator_api_key)
        return home

    def party_folder(self, name: str) -> Path:
        """Return the folder of a party."""
        return self.folder / "parties" / slug(name)

    def add_node(
        self,
        home: Home,
        file: Path,
        reading: Mapping[str, Any],
        *,
        cost_cents: int = 0,
        description: str = "",
        use_rights: str = "",
    ) -> Node:
        """Measure a data file, list it as the provider's asset, and open its node."""
        node = make_node(self.folder / "nodes" / slug(home.name), home, file, reading)
        return self._open(
            list_node(
                node,
                Provider(home, self.http(), self.clock),
                name=home.name,
                description=description,
                use_rights=use_rights,
                cost_cents=cost_cents,
            )
        )

    def open_nodes(self) -> list[str]:
        """Open nodes that were added to the folder; return their names."""
        opened = []
        with self._opening:
            for path in sorted((self.folder / "nodes").glob(f"*/{SETTINGS}")):
                home = NodeHome.load(path.parent)
                if home.settings.asset and home.settings.asset not in self.nodes:
                    self._open(home)
                    opened.append(home.settings.name)
        return opened

    def ask(self, asset: str, body: bytes) -> bytes:
        """Put a request to a node as an operator can, past its own checks; return the reply."""
        request, run = read_request(body), next(self._runs)
        # As whoever takes a job over does: a higher fence and a run of its own each time.
        lease = Lease(request.job, request.attempt, fence=run, run=run)
        signed = lease.sign(self.app.state.context.operator_key)
        return self.nodes[asset].handle(body, Beside(lease=signed, run=run))

    def decide(self) -> dict[str, dict[str, str]]:
        """Let nodes that decide by rule decide what waits, and every node keep its books.

        Returns:
            Verdicts by asset and job.
        """
        verdicts = {}
        for asset, node in self.nodes.items():
            verdicts[asset] = node.decide_by_rule(partial(self._by_rule, asset))
        self.keep_books()
        return verdicts

    def keep_books(self) -> None:
        """Let every node hand in what the log lacks of it, and close the epochs that have ended.

        Raises:
            FederatedError, LedgerError: a node cannot; see `Node.keep_books`.
        """
        for node in self.nodes.values():
            node.keep_books()

    def export(self, folder: Path) -> None:
        """Write the log to a new folder for an auditor, with everything opened."""
        log = self.app.state.context.log
        key = SigningKey.load(self._settings.log_key)
        scope, now = "auditor: everything", self.clock()
        export(log, key, folder, opened=range(log.size), scope=scope, now=now)

    def look_for_work(self) -> None:
        """Sign agreements, decide by rule and keep books until the market is left; for `serve`.

        What goes wrong with one party or node is logged and keeps nobody else waiting.
        """
        while not self._leaving.wait(LOOK_INTERVAL):
            with self._reported("nodes"):
                self.open_nodes()
            for path in sorted((self.folder / "parties").glob("*/party.json")):
                with self._reported(path.parent.name):
                    self._agree(path.parent)
            for asset, node in list(self.nodes.items()):
                with self._reported(asset):
                    node.decide_by_rule(partial(self._by_rule, asset))
                    node.keep_books()

    def start_looking(self) -> None:
        """Run `look_for_work` in a thread until the market is left."""
        self._looking = threading.Thread(target=self.look_for_work, name="nodes", daemon=True)
        self._looking.start()

    @contextmanager
    def undecided(self) -> Iterator[None]:
        """Let no node decide by itself; here none does, unless `start_looking` was called."""
        yield

    @contextmanager
    def insecure_operator(self) -> Iterator[None]:
        """Switch the operator's own checks off, to see the nodes refuse by themselves."""
        context = self.app.state.context
        self.app.state.context = replace(context, insecure_skip_checks=True)
        try:
            yield
        finally:
            self.app.state.context = context

    @contextmanager
    def _reported(self, who: str) -> Iterator[None]:
        """Log what somebody's turn raised, once and not at every look."""
        try:
            yield
        except (FederatedError, LedgerError, MarketplaceError, httpx.HTTPError) as error:
            if self._complaints.get(who) != str(error):
                _log.warning("%s: %s", who, error)
            self._complaints[who] = str(error)
        except Exception as error:  # noqa: BLE001 - logged, once and not at every look
            # A defect: the others' jobs go on, and this one's next turn comes.
            if self._complaints.get(who) != repr(error):
                _log.exception("%s: met an unexpected error", who)
            self._complaints[who] = repr(error)
        else:
            self._complaints.pop(who, None)

    def _agree(self, folder: Path) -> None:
        if folder not in self._providers:
            home = Home.load(folder)
            # A folder made by hand may be on its way to enrolment.
            if home.api_key() is None:
                return
            self._providers[folder] = Provider(home, self.http(), self.clock)
        client = self._providers[folder]
        if "provider" in client.roles():
            client.agree_by_rule()

    def _by_rule(self, asset: str) -> bool:
        return NodeHome.load(self._folders[asset]).settings.approval == "rule"

    def _open(self, home: NodeHome) -> Node:
        node = home.open(self.http(), self.clock)
        self._folders[node.asset] = home.folder
        self.nodes[node.asset] = node
        return node

    @contextmanager
    def _open_grid(self, assets: Sequence[str]) -> Iterator[tuple[Grid, dict[str, int]]]:
        self.open_nodes()
        for asset in assets:
            if asset not in self.nodes:
                raise FederatedError(f"the node that guards {asset[:24]} is not on this machine")
        node_ids = {asset: number for number, asset in enumerate(assets, start=2)}
        apps = {number: seat(self.nodes[asset], number) for asset, number in node_ids.items()}
        # Each opening is a run of its own, as over a SuperLink: a lease names it.
        with InProcessGrid(apps, run_id=next(self._runs), tap=self._tap) as grid:
            yield grid, node_ids
