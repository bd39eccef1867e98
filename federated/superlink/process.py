"""Starts Flower's stock `flower-superlink` on loopback, and starts it anew when it dies.

Decides how it is run: with TLS under an authority made for it alone, node authentication on, its
state in a database file, no app of its own (`--isolation process`) and no installation at run time.
Who may reach it from outside is the service's business: the SuperLink listens on loopback alone.

    with SuperLink(folder) as link:
        runs = Runs(link.access)

    superlink.db     runs, nodes and messages under way
    superlink.log    what it says
    address          where it is
    secret           lets the coordinator, and nobody else, begin a run (0600)
    tls/             its authority and certificate
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from federated import certificates
from federated.errors import SuperLinkError
from federated.superlink import tied
from ledger import durable
from privacy.secure_random import random_bytes

LOOPBACK: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
"""Longest start: on two slow cores it takes some ten seconds."""

_ADDRESS: Final = "address"
_SECRET: Final = "secret"  # noqa: S105 - a file's name
_POLL: Final = 0.1
_RESTART_SECONDS: Final = 0.5
_SECRET_BYTES: Final = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Access:
    """How the operator reaches its SuperLink.

    Attributes:
        address: host and port.
        ca: PEM of the authority that signed its certificate.
        secret: lets its holder claim runs.
    """

    address: str
    ca: bytes
    secret: bytes = field(repr=False)


class SuperLink:
    """The operator's SuperLink, as a process of its own that ends with this one.

    Args:
        folder: where its state, keys and log are; made when there is none.
        port: on loopback; 0 takes a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        self._port = port or _free_port()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="superlink", daemon=True)
        self._prepare()

    def __enter__(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            SuperLinkError: it does not start, and its log is named; or `stop` came first.
        """
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or self._stopping.is_set():
            self.stop()
            raise SuperLinkError(f"the SuperLink does not start; see {self._log_file}")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    @property
    def access(self) -> Access:
        """How to reach it."""
        return access_of(self._folder)

    @property
    def pid(self) -> int | None:
        """The process's number while it runs."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End the process and wait for it; on any thread, also while it is being started."""
        self._stopping.set()
        self._ready.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        # In one thread from start to end: the process dies with the thread that started it.
        while not self._stopping.is_set():
            with self._log_file.open("ab") as log:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                    self._command(), stdout=log, stderr=log, env=_environment(self._folder)
                )
            self._process = process
            if self._stopping.is_set():
                # `stop` may have looked before there was a process to end.
                process.kill()
            self._await_answer(process)
            process.wait()
            self._process = None
            if not self._stopping.is_set():
                _log.warning("the SuperLink ended with %s; it is started anew", process.returncode)
                self._stopping.wait(_RESTART_SECONDS)

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        context = certificates.trusting(self._folder / "tls" / certificates.CA)
        with httpx.Client(verify=context, trust_env=False) as http:
            while process.poll() is None and not self._stopping.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    http.get(f"https://{LOOPBACK}:{self._port}/health", timeout=2.0)
                    self._ready.set()
                    return
                time.sleep(_POLL)

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        tls = self._folder / "tls"
        # Made anew at each start: nobody but this process and its child ever sees them.
        certificates.save(certificates.make([LOOPBACK], now=datetime.now(UTC)), tls)
        descriptor = os.open(self._secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(random_bytes(_SECRET_BYTES))
        durable.replace(self._folder / _ADDRESS, f"{LOOPBACK}:{self._port}\n".encode())

    @property
    def _secret(self) -> Path:
        return self._folder / _SECRET

    @property
    def _log_file(self) -> Path:
        return self._folder / "superlink.log"

    def _command(self) -> list[str]:
        tls = self._folder / "tls"
        return [
            *tied.to_this(),
            str(Path(sys.executable).with_name("flower-superlink")),
            *("--host", LOOPBACK, "--port", str(self._port)),
            *("--ssl-ca-certfile", str(tls / certificates.CA)),
            *("--ssl-certfile", str(tls / certificates.SERVER)),
            *("--ssl-keyfile", str(tls / certificates.SERVER_KEY)),
            *("--database", str(self._folder / "superlink.db")),
            *("--superexec-auth-secret-file", str(self._secret)),
            *("--isolation", "process", "--enable-supernode-auth"),
            "--disable-runtime-dependency-installation",
        ]


def access_of(folder: Path) -> Access:
    """Return how to reach the SuperLink whose folder this is, for whoever may read its secret.

    Raises:
        SuperLinkError: none was started in it.
    """
    try:
        return Access(
            (folder / _ADDRESS).read_text(encoding="ascii").strip(),
            (folder / "tls" / certificates.CA).read_bytes(),
            (folder / _SECRET).read_bytes(),
        )
    except OSError as error:
        raise SuperLinkError(f"{folder}: no SuperLink was started here") from error


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a Flower process: no telemetry, and nothing outside its folder."""
    switches = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(folder / "flower"),
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    return {"PATH": path, "HOME": str(folder), **switches}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
