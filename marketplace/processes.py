"""A market on one machine as it is deployed: every role a process of its own, over TLS on loopback.

    with Processes(folder, settings) as market:
        basel = market.enrol("Basel hospital", "provider")
        node = market.add_node(basel, Path("basel.csv"), {"header": True}, cost_cents=250_00)

The same programs as on real machines (`rongshu serve`, `rongshu node run`), started by their own
commands, each with its folder:

    service/             the operator's data, with certificates in tls/
    parties/NAME/        a party's keys
    nodes/NAME/          a node's settings, key and journal; its output in node.log

Separate processes of one user are still no trust boundary. They show that nothing passes between
the roles but what crosses the network, and what happens when one of them dies.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from federated import certificates
from federated.address import reach
from federated.errors import NodeError, RefusedError, SuperLinkError
from federated.lease import Lease
from federated.messages import KeysRequest, Refusal, Request, read_reply, read_request
from federated.node.enrol import enrol
from federated.node.home import NodeHome
from federated.records import MESSAGE_TYPE, pack, unpack
from federated.superlink import tied
from federated.superlink.process import access_of
from federated.superlink.runs import Runs
from ledger.keys import SigningKey, VerifyKey
from marketplace.client import ENDED, Client, Home, Provider, now_ms
from marketplace.listing import admit, list_node, make_node, slug
from marketplace.settings import Settings

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
QUIET_SECONDS: Final = 2.5
"""When the log has not grown for so long, every node has closed what there was to close."""

_POLL: Final = 0.1


class Process:
    """One program of ours; its output goes to a file.

    Args:
        arguments: of `rongshu`.
        log: the file.
        environment: of the process; this one's where None.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                # Tied to this process: however it ends, none of them stays behind.
                [*tied.to_this(), sys.executable, "-m", "ledger.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environment is None else dict(environment),
            )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.popen.pid

    def check(self) -> None:
        """Look that it runs.

        Raises:
            NodeError: it has ended; carries the last line that it said.
        """
        if self.popen.poll() is not None:
            said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise NodeError(f"{self._log.stem} ended: {said[0] if said else 'without a word'}")

    def end(self) -> None:
        """Tell it to end, as a service manager would."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Tell it to end, and wait."""
        self.end()
        if self.popen.poll() is None:
            try:
                self.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()


class RemoteNode:
    """A node in a process of its own, as a scenario asks of it what it asks of one in its own."""

    def __init__(
        self, home: NodeHome, provider: Provider, superlink: Path, operator_key: Path
    ) -> None:
        self.home = home
        self._provider = provider
        self._superlink = superlink
        self._operator_key = operator_key
        self._fences = itertools.count(1)
        self.process = self.start()

    @property
    def asset(self) -> str:
        """Id of the asset that this node guards."""
        return self.home.settings.asset

    def start(self) -> Process:
        """Start its process; also after one was ended."""
        self.process = Process(
            ["node", "run", str(self.home.folder)], self.home.folder / "node.log"
        )
        return self.process

    def approve(self, job_id: str) -> str:
        """Wait for what the node itself decides of a job: `granted`.

        Raises:
            RefusedError: it refused.
            NodeError: it does not answer.
        """
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            view = self._provider.call("GET", f"/jobs/{job_id}")
            (party,) = [each for each in view["parties"] if each["asset"] == self.asset]
            if party["state"] == "refused":
                raise RefusedError(party["reason"], "the node refused")
            if party["state"] != "waiting":
                return "granted"
            if view["state"] in ENDED:
                # Another node was faster to refuse, so nobody asks this one any more: do it here.
                self._ask_in_vain(job_id, [each["asset"] for each in view["parties"]])
            self.process.check()
            time.sleep(_POLL)
        raise NodeError(f"{self.home.settings.name} does not decide")

    def _ask_in_vain(self, job_id: str, assets: Sequence[str]) -> None:
        """Begin a job that was not granted.

        Raises:
            RefusedError: as it should be.
        """
        request = KeysRequest(job_id, 1, 1, tuple(sorted(assets)), {})
        reply = read_reply(self.handle(request.to_bytes()))
        if isinstance(reply, Refusal):
            raise RefusedError(reply.reason, "the node refused")

    def handle(self, body: bytes) -> bytes:
        """Put a request to the node as an operator can, past its own checks; return the reply.

        Raises:
            SuperLinkError: no reply comes.
        """
        runs = Runs(access_of(self._superlink))
        with contextlib.closing(runs), runs.begin() as grid:
            number = int(self.home.settings.seat)
            content = pack(body, lease=self._lease(read_request(body), grid.run.run_id))
            message = grid.create_message(content, MESSAGE_TYPE, number, "attempt")
            replies = grid.send_and_receive([message], timeout=START_SECONDS)
            if not replies or replies[0].has_error():
                raise SuperLinkError(f"{self.home.settings.name} does not answer")
            return unpack(replies[0])

    def _lease(self, request: Request, run: int) -> bytes:
        """Return what the operator signs for a request; each time as if it took the job over."""
        lease = Lease(request.job, request.attempt, next(self._fences), run)
        return lease.sign(SigningKey.load(self._operator_key))


class Processes:
    """A whole marketplace below one folder, each role a process.

    Args:
        folder: made when it does not exist; holds everything.
        settings: of the service.
        clock: returns Unix milliseconds.
    """

    def __init__(self, folder: Path, settings: Settings, clock: Callable[[], int] = now_ms) -> None:
        self.folder = folder
        self.clock = clock
        self.nodes: dict[str, RemoteNode] = {}
        self.service: Process | None = None
        self.port = _free_port()
        self.address = f"https://{HOST}:{self.port}"
        self._settings = settings
        self._insecure = False
        self._clients = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Make certificates and start the service."""
        made = certificates.make([HOST, "localhost"], now=datetime.now(UTC))
        certificates.save(made, self._settings.tls_folder)
        try:
            self.start_service()
        except BaseException:
            self.stop_service()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Stop the nodes, then the service."""
        for node in self.nodes.values():
            node.process.end()
        for node in self.nodes.values():
            node.process.stop()
        self.stop_service()
        self._clients.close()

    @property
    def log_key(self) -> VerifyKey:
        """The log's verifier key: what an auditor needs from outside the export."""
        return SigningKey.load(self._settings.log_key).verify_key

    def start_service(self, *extra: str) -> None:
        """Start the service's process and wait until it answers.

        Raises:
            NodeError: it does not start.
        """
        folder = self._settings.folder
        arguments = ["serve", "--data", str(folder), "--host", HOST, "--port", str(self.port)]
        self.service = Process(
            [*arguments, *extra], folder / "serve.log", self._settings.environment()
        )
        end = time.monotonic() + START_SECONDS
        with reach(self._settings.tls_folder, self.address, 5.0) as http:
            while time.monotonic() < end:
                self.service.check()
                with contextlib.suppress(httpx.HTTPError):
                    if http.get("/v1/health").is_success:
                        return
                time.sleep(_POLL)
        raise NodeError(f"the service does not answer; see {folder / 'serve.log'}")

    def await_superlink(self) -> None:
        """Wait until the service's SuperLink is at work, for whoever is to use it past the service.

        A service that starts ends every run that it finds, and lets nobody through before.

        Raises:
            NodeError: it does not get there, or the service has ended.
        """
        http, end = self.http(), time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.service is not None:
                self.service.check()
            # Nobody's request: the SuperLink refuses it once it hears of it.
            answer = http.post("/v1/fleet/pull-messages")
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return
            time.sleep(_POLL)
        raise NodeError("the service's SuperLink does not answer; is a node enrolled?")

    def stop_service(self) -> None:
        """Stop the service's process, and its SuperLink with it."""
        if self.service is not None:
            self.service.stop()
            self.service = None

    def http(self) -> httpx.Client:
        """Return a new client of the service, without credentials."""
        client = reach(self._settings.tls_folder, self.address, 120.0)
        self._clients.callback(client.close)
        return client

    def enrol(self, name: str, role: str) -> Home:
        """Make a party's folder and enrol it; the operator issues the code for it."""
        folder = self.folder / "parties" / slug(name)
        home = Home.create(folder, name, self.address, self.log_key)
        ca = self._settings.tls_folder / certificates.CA
        (folder / certificates.CA).write_bytes(ca.read_bytes())
        client = Client(home, self.http(), self.clock)
        admit(client, role, self.http(), self._settings.operator_api_key)
        return home

    def add_node(
        self,
        home: Home,
        file: Path,
        reading: Mapping[str, Any],
        *,
        cost_cents: int = 0,
        description: str = "",
        use_rights: str = "",
    ) -> RemoteNode:
        """Measure a data file, list it, enrol its node with a one-time code, and start it."""
        provider = Provider(home, self.http(), self.clock)
        node = list_node(
            make_node(self.folder / "nodes" / slug(home.name), home, file, reading),
            provider,
            name=home.name,
            description=description,
            use_rights=use_rights,
            cost_cents=cost_cents,
        )
        code = provider.call("POST", f"/assets/{node.settings.asset}/codes", {})["code"]
        node = enrol(node, self.http(), code)
        remote = RemoteNode(
            node, provider, self._settings.superlink_folder, self._settings.operator_key
        )
        self.nodes[remote.asset] = remote
        return remote

    def ask(self, asset: str, body: bytes) -> bytes:
        """Put a request to a node as an operator can, past its own checks; return the reply.

        Raises:
            SuperLinkError: no reply comes.
        """
        return self.nodes[asset].handle(body)

    def decide(self) -> None:
        """Look that every node runs; they decide by themselves.

        Raises:
            NodeError: one has ended.
        """
        for node in self.nodes.values():
            node.process.check()

    @contextmanager
    def undecided(self) -> Iterator[None]:
        """Let no node decide by itself: they read their settings at each look."""
        self._decide_by("hand")
        try:
            yield
        finally:
            self._decide_by("rule")

    def _decide_by(self, approval: str) -> None:
        for node in self.nodes.values():
            NodeHome.load(node.home.folder).decide_by(approval)

    def keep_books(self) -> None:
        """Wait until no node has anything more to tell the log."""
        http, size, since = self.http(), -1, time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            found = http.get("/v1/health").json()["log_size"]
            if found != size:
                size, since = found, time.monotonic()
            time.sleep(_POLL)

    def export(self, folder: Path) -> None:
        """Write the log to a new folder for an auditor, with everything opened.

        Raises:
            NodeError: the command failed.
        """
        arguments = ["ledger", "export", str(folder), "--data", str(self._settings.folder)]
        log = self.folder / "export.log"
        done = Process(arguments, log, self._settings.environment())
        if done.popen.wait() != 0:
            done.check()

    @contextmanager
    def insecure_operator(self) -> Iterator[None]:
        """Run the operator without its own checks, to see the nodes refuse by themselves."""
        if self._insecure:
            yield
            return
        self.stop_service()
        self._insecure = True
        self.start_service("--insecure-skip-checks")
        self.await_superlink()
        try:
            yield
        finally:
            self.stop_service()
            self._insecure = False
            self.start_service()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
