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
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from fastapi import FastAPI

from federated.coordinator import Grid
from federated.errors import FederatedError
from federated.grid import InProcessGrid, Tap, quieten_flower
from federated.node.client_app import seat
from federated.node.home import SETTINGS, NodeHome, NodeSettings
from federated.node.runner import Node
from ledger.errors import LedgerError
from ledger.keys import SigningKey, VerifyKey
from marketplace.app import create_app
from marketplace.client import Client, Home, Provider, now_ms
from marketplace.errors import MarketplaceError
from marketplace.jobs.grid_engine import GridEngine
from marketplace.settings import Settings
from marketplace.transport import AppTransport

BASE_ADDRESS = "http://rongshu.local"
# How often nodes and providers look for what waits for them, seconds.
LOOK_INTERVAL = 0.25

_log = logging.getLogger(__name__)


class Embedded:
    """A whole marketplace below one folder.

    Args:
        folder: made when it does not exist; holds everything.
        settings: of the service; by default those of the environment.
        clock: returns Unix milliseconds.
        tap: sees every serialised message between coordinator and nodes.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings | None = None,
        clock: Callable[[], int] = now_ms,
        tap: Tap | None = None,
    ) -> None:
        quieten_flower()
        self.folder = folder
        self.clock = clock
        self.nodes: dict[str, Node] = {}
        self._tap = tap
        self._settings = settings or Settings.load(folder / "service")
        self._engine = GridEngine(self._open_grid)
        self.app: FastAPI = create_app(self._settings, engine=self._engine, clock=clock)
        self._transport = AppTransport(self.app)
        self._exits = ExitStack()
        self._leaving = threading.Event()

    def __enter__(self) -> Self:
        """Start the service and open every node in the folder."""
        self._exits.enter_context(self._transport)
        self.open_nodes()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Stop looking for work, then the service."""
        self._leaving.set()
        self._exits.close()

    @property
    def log_key(self) -> VerifyKey:
        """The log's verifier key: what an auditor needs from outside the export."""
        return SigningKey.load(self._settings.log_key).verify_key

    def http(self) -> httpx.Client:
        """Return a new client of the service, without credentials."""
        client = httpx.Client(transport=self._transport, base_url=BASE_ADDRESS, timeout=120.0)
        self._exits.callback(client.close)
        return client

    def enrol(self, name: str, role: str) -> Home:
        """Make a party's folder and enrol it; the operator issues the code for it."""
        home = Home.create(self.party_folder(name), name, BASE_ADDRESS, self.log_key)
        operator = self.http()
        key = self._settings.operator_api_key.read_text().strip()
        operator.headers["Authorization"] = f"Bearer {key}"
        answer = operator.post("/v1/enrolments", json={"roles": [role], "note": name})
        answer.raise_for_status()
        Client(home, self.http(), self.clock).enrol(answer.json()["code"], (role,))
        return home

    def party_folder(self, name: str) -> Path:
        """Return the folder of a party."""
        return self.folder / "parties" / _slug(name)

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
        settings = NodeSettings(
            name=home.name,
            file=str(file.resolve()),
            reading=dict(reading),
            service=home.service,
            log_key=home.log_key.text,
            provider=home.participant(),
            provider_key=str((home.folder / "signing.key").resolve()),
        )
        node_home = NodeHome.create(self.folder / "nodes" / _slug(home.name), settings)
        provider = Provider(home, self.http(), self.clock)
        measurement, digest = node_home.measure(self.clock())
        asset = provider.list_asset(
            name=home.name,
            description=description,
            use_rights=use_rights,
            node_key=node_home.node_key().verify_key.text,
            measurement=measurement,
            cost_cents=cost_cents,
        )
        # The node's own key opens only what a node needs.
        api_key = provider.call("POST", "/keys", {"scopes": ["node"]})["api_key"]
        return self._open(node_home.guard(asset, digest, api_key))

    def open_nodes(self) -> list[str]:
        """Open nodes that were added to the folder; return their names."""
        opened = []
        known = set(self.nodes)
        for path in sorted((self.folder / "nodes").glob(f"*/{SETTINGS}")):
            home = NodeHome.load(path.parent)
            if home.settings.asset and home.settings.asset not in known:
                self._open(home)
                opened.append(home.settings.name)
        return opened

    def decide(self) -> dict[str, dict[str, str]]:
        """Let nodes that decide by rule decide what waits; return verdicts by asset and job."""
        verdicts = {}
        for asset, node in self.nodes.items():
            if NodeHome.load(self._node_folder(asset)).settings.approval == "rule":
                verdicts[asset] = node.decide_by_rule()
        return verdicts

    def look_for_work(self) -> None:
        """Sign agreements and decide jobs by rule until the market is left; for `serve`."""
        while not self._leaving.wait(LOOK_INTERVAL):
            try:
                self.open_nodes()
                self._agree()
                self.decide()
            except (FederatedError, LedgerError, MarketplaceError) as error:
                _log.warning("%s", error)

    def start_looking(self) -> None:
        """Run `look_for_work` in a thread until the market is left."""
        thread = threading.Thread(target=self.look_for_work, name="nodes", daemon=True)
        thread.start()
        self._exits.callback(thread.join)

    @contextmanager
    def insecure_operator(self) -> Iterator[None]:
        """Switch the operator's own checks off, to see the nodes refuse by themselves."""
        context = self.app.state.context
        self.app.state.context = replace(context, insecure_skip_checks=True)
        try:
            yield
        finally:
            self.app.state.context = context

    def _agree(self) -> None:
        for path in sorted((self.folder / "parties").glob("*/party.json")):
            home = Home.load(path.parent)
            client = Provider(home, self.http(), self.clock)
            if "provider" in client.call("GET", "/me")["roles"]:
                client.agree_by_rule()

    def _open(self, home: NodeHome) -> Node:
        node = home.open(self.http(), self.clock)
        self.nodes[node.asset] = node
        return node

    def _node_folder(self, asset: str) -> Path:
        for path in (self.folder / "nodes").glob(f"*/{SETTINGS}"):
            if NodeHome.load(path.parent).settings.asset == asset:
                return path.parent
        raise FederatedError(f"no node here guards {asset[:24]}")

    @contextmanager
    def _open_grid(self, assets: Sequence[str]) -> Iterator[tuple[Grid, dict[str, int]]]:
        node_ids = {asset: number for number, asset in enumerate(assets, start=2)}
        apps = {number: seat(self.nodes[asset], number) for asset, number in node_ids.items()}
        with InProcessGrid(apps, tap=self._tap) as grid:
            yield grid, node_ids


def _slug(name: str) -> str:
    """Return a name as a folder may carry it."""
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") or "party"
