"""Run the service: the operator's part, or with `--embedded` all roles on one machine."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from federated import certificates
from federated.address import ADDRESS
from federated.switches import quiet_flower
from ledger import durable
from ledger.keys import SigningKey
from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.show import print_json, say
from marketplace.errors import MarketplaceError
from marketplace.settings import Settings
from marketplace.transport import AppTransport

EXAMPLES = "rongshu serve --data data\n  rongshu serve --embedded out/mine/market --port 0"
DESCRIPTION = """\
Run the service until Ctrl-C.

--data DIR      the operator's part: catalogue, negotiation, jobs, settlement, log. Nodes run on
                their providers' machines (`rongshu node run`) and connect to this service, which
                passes them on to a Flower SuperLink that it runs on loopback.
--embedded DIR  a market on one machine: the API, and every node in DIR/nodes, which compute. Nodes
                that decide by rule and providers in DIR/parties answer by themselves; a job that
                another terminal submits runs here. DIR is new, or the `market` folder of a scenario
                run. One process is no trust boundary: this shows the roles to one owner.

It listens on this machine alone unless --host says otherwise. With a certificate (`rongshu operator
certificate`, or one of your own) it speaks TLS; without one it speaks plain HTTP, and needs a proxy
with TLS in front before anything else may reach it."""
LOCK = "serving.lock"
# After this many seconds an answer under way is given up.
GRACE = 5
# Seconds in which clients that are still there close their connections.
CLOSING = 0.5


class ServeError(MarketplaceError):
    """The service cannot be started here."""

    default_code = "serve"


@dataclass(frozen=True)
class _Running:
    """What is being served, for the first lines that a person reads."""

    folder: Path
    settings: Settings
    address: str
    nodes: int | None


def command(argv: list[str]) -> int:
    """Run `rongshu serve` and return its exit code."""
    parser = args.parser_of("rongshu serve", DESCRIPTION, EXAMPLES)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: data)")
    where.add_argument("--embedded", type=Path, metavar="DIR", help="folder of a whole market")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="default: 8448; 0 takes a free one and prints it")
    parser.add_argument("--insecure-skip-checks", action="store_true", help=argparse.SUPPRESS)
    args.as_json(parser)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # httpx and uvicorn would write a line for each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    embedded = arguments.embedded is not None
    folder: Path = arguments.embedded or arguments.data or Path("data")
    settings = _settings(arguments, folder, embedded=embedded)
    with ExitStack() as stack:
        stack.enter_context(alone(folder))
        listener = stack.enter_context(_listening(settings))
        host, port = listener.getsockname()[:2]
        address = address_at(host, port, tls=settings.tls is not None)
        stop = _stop_on_signal()
        # For trying what nodes refuse when their operator checks nothing; see `create_app`.
        insecure: bool = arguments.insecure_skip_checks
        serving = _embedded if embedded else partial(_service, insecure=insecure)
        with serving(folder, settings, listener, address) as nodes:
            stack.enter_context(_published(folder, address))
            _tell(_Running(folder, settings, address, nodes), as_json=arguments.json)
            stop.wait()
    if not arguments.json:
        say("stopped")
    return 0


def _settings(arguments: argparse.Namespace, folder: Path, *, embedded: bool) -> Settings:
    if embedded and (folder / "market" / "service").is_dir():
        raise ArgumentError(f"--embedded: did you mean {folder / 'market'}?")
    if not embedded and (folder / "service").is_dir():
        raise ArgumentError(f"--data: {folder} holds a whole market; use --embedded {folder}")
    settings = Settings.load(folder / "service" if embedded else folder)
    if arguments.host is not None:
        settings = replace(settings, host=arguments.host)
    if arguments.port is not None:
        settings = replace(settings, port=arguments.port)
    return settings


def address_at(host: str, port: int, *, tls: bool) -> str:
    """Return how this machine reaches what listens here.

    Args:
        host: the address listened on; one that stands for every address becomes loopback's.
        port: the port.
        tls: whether it speaks TLS.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound
    written = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{written}:{port}"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two sequencers on one database would contradict each other."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServeError(f"{folder} cannot be used: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServeError(f"{folder} is being served already") from error
        yield


@contextmanager
def stopped(folder: Path) -> Iterator[None]:
    """Hold every lock that a service over this data folder would take, so that none runs."""
    with ExitStack() as held:
        # A market on one machine is served from the folder around it.
        for each in (folder, folder.parent) if folder.name == "service" else (folder,):
            held.enter_context(alone(each))
        yield


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Bind first: whoever connects from now on waits until the service answers."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(512)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise ServeError(f"cannot listen on {where}: {error.strerror or error}") from error
        yield listener


def _stop_on_signal() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextmanager
def _service(
    folder: Path, settings: Settings, listener: socket.socket, address: str, *, insecure: bool
) -> Iterator[None]:
    """Serve the API, and the SuperLink over which nodes compute."""
    del folder, address
    quiet_flower()
    # Imported here: the switches above must stand before Flower is loaded.
    from marketplace.app import create_app  # noqa: PLC0415
    from marketplace.fleet.link import Link  # noqa: PLC0415

    link = Link(settings.superlink_folder, settings.superlink_port)
    app = create_app(settings, link=link, insecure_skip_checks=insecure)
    http = _Http(app, listener, settings.tls)
    with http.until_end(), AppTransport(app):
        http.start()
        yield


@contextmanager
def _embedded(
    folder: Path, settings: Settings, listener: socket.socket, address: str
) -> Iterator[int]:
    """Serve a whole market; its parties and nodes reach the API over the same address."""
    quiet_flower()
    # Imported here: the API alone needs neither Flower nor the node.
    from marketplace.embedded import Embedded  # noqa: PLC0415

    market = Embedded(folder, settings, address=address)
    http = _Http(market.app, listener, settings.tls)
    with http.until_end(), market:
        http.start()
        market.start_looking()
        yield len(market.nodes)


class _Http:
    """Answers requests on a thread of its own; the application's life is somebody else's.

    It starts after the application did, and ends after it: a job under way at Ctrl-C needs the API
    until its nodes have handed in their receipts.
    """

    def __init__(
        self, app: FastAPI, listener: socket.socket, tls: tuple[Path, Path] | None
    ) -> None:
        certificate, key = tls or (None, None)
        _usable(tls)
        config = uvicorn.Config(
            app,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            lifespan="off",
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="http", daemon=True
        )

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    @contextmanager
    def until_end(self) -> Iterator[None]:
        """Stop answering at the end."""
        try:
            yield
        finally:
            self._server.should_exit = True
            if self._thread.is_alive():
                self._end()

    def _end(self) -> None:
        """Let answers under way go out; then leave connections that nobody closes at the far end.

        Over TLS an idle client is asked to agree to the end, which it never does.
        """
        self._thread.join(CLOSING)
        while self._thread.is_alive() and self._server.server_state.tasks:
            self._thread.join(CLOSING)
        self._server.force_exit = True
        self._thread.join()


def _usable(tls: tuple[Path, Path] | None) -> None:
    """Look that a certificate and its key can be used, before anybody waits for an answer.

    Raises:
        ServeError: they cannot.
    """
    if tls is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*tls)
    except (OSError, ssl.SSLError) as error:
        raise ServeError(f"TLS: {tls[0]} and {tls[1]} cannot be used: {error}") from error


@contextmanager
def _published(folder: Path, address: str) -> Iterator[None]:
    """Write the address into the folder, for parties and nodes on this machine."""
    path = folder / ADDRESS
    durable.replace(path, f"{address}\n".encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _tell(running: _Running, *, as_json: bool) -> None:
    key = SigningKey.load(running.settings.log_key).verify_key
    if as_json:
        print_json(
            {
                "address": running.address,
                "log_key": key.text,
                "folder": str(running.folder),
                "nodes": running.nodes,
            }
        )
    else:
        say(f"listening on {running.address} (what it understands: {running.address}/v1/docs)")
        say(f"log key: {key.text}")
        say(f"         {key.fingerprint}")
        say(f"folder: {running.folder}")
        if running.settings.tls is not None:
            say(f"certificate: until {certificates.ends(running.settings.tls[0]):%Y-%m-%d}")
        if running.settings.witness_policy:
            say(f"witnesses: those of {running.settings.witness_policy}")
        if running.nodes is not None:
            say(f"nodes: {running.nodes}; those that decide by rule answer by themselves")
        say("Ctrl-C stops.")
    sys.stdout.flush()
