"""The program that SPU's own Python runs: one RR22 intersection between two parties, then the end.

It is started by path, stands in no import of Rongshu and imports nothing of it: the environment it
runs in holds `spu` alone. `spu/__init__.py` is passed over, because it pulls in jax, numpy and half
a gigabyte for what an intersection does not need; the two extension modules do without.

Standard input is the leash. One JSON line says what to do, the line `go` that the ids are in place,
and its end that nobody waits any more: then the private folder is removed and the process group
ends. Standard output carries one JSON line an event, each with `event`:

    {"event": "linked"}
    {"event": "done", "ids": 1000, "peer_ids": 1000}
    {"event": "failed", "reason": "peer_disagrees"}

What the library itself prints goes to `worker.log` in the private folder. It names paths, sizes and
addresses; no id, and here no key either.

    python -I worker.py --version          {"format": 1, "spu": "0.9.5"}
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import queue
import re
import resource
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORMAT = 1
"""Version of what two workers say to each other and to whoever started them."""

COLUMN = "id"
IDS = "ids.csv"
FOUND = "found.csv"
LOG = "worker.log"
CONNECT_INTERVAL_MS = 100
LINGER_SECONDS = 0.1
"""Answers to the other party's last words may still be on their way."""

# The library writes its trace there whatever TMPDIR says: times of its phases.
_TRACE = re.compile(rb"Trace has been written to (/tmp/psi_[A-Za-z0-9_-]+\.trace)")


def load_spu() -> tuple[Any, Any, str]:
    """Load SPU's two extension modules and its version without its package's `__init__`.

    Returns:
        `spu.libspu`, `spu.libpsi` and the version.

    Raises:
        ImportError: it is not installed, or not for this Python or machine.
    """
    spec = importlib.util.find_spec("spu")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("spu")
    package = types.ModuleType("spu")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["spu"] = package
    spu = importlib.import_module("spu.libspu")
    psi = importlib.import_module("spu.libpsi")
    spu._check_cpu_features()  # noqa: SLF001 - what the package's own __init__ does
    return spu, psi, importlib.import_module("spu.version").__version__


def describe_link(link: Any, task: dict[str, Any]) -> Any:
    """Describe the link: two parties, TLS, and on each side one certificate that may be there."""
    described = link.Desc()
    for rank, address in enumerate(task["addresses"]):
        described.add_party(f"party{rank}", address)
    described.connect_retry_interval_ms = CONNECT_INTERVAL_MS
    described.connect_retry_times = task["seconds"] * 1000 // CONNECT_INTERVAL_MS
    described.recv_timeout_ms = task["seconds"] * 1000
    described.enable_ssl = True
    for options in (described.server_ssl_opts, described.client_ssl_opts):
        options.cert.certificate_path = "own.pem"
        options.cert.private_key_path = "own.key"
        # The other party's certificate is the only authority, so that nobody else's is accepted.
        options.verify.ca_file_path = "peer.pem"
        options.verify.verify_depth = 1
    return described


def describe_intersection(psi: Any, task: dict[str, Any]) -> Any:
    """Describe the intersection: RR22 as the library offers it, with distinct ids."""
    config = psi.PsiExecuteConfig()
    config.protocol_conf.protocol = psi.PsiProtocol.PROTOCOL_RR22
    config.protocol_conf.receiver_rank = task["receiver"]
    config.protocol_conf.broadcast_result = task["both"]
    config.input_params.type = psi.SourceType.SOURCE_TYPE_FILE_CSV
    config.input_params.path = str(Path.cwd() / IDS)
    config.input_params.selected_keys = [COLUMN]
    config.input_params.keys_unique = True
    config.output_params.type = psi.SourceType.SOURCE_TYPE_FILE_CSV
    config.output_params.path = str(Path.cwd() / FOUND)
    config.output_params.disable_alignment = True
    return config


def disagreement(own: dict[str, Any], peer: dict[str, Any]) -> str | None:
    """Return a fixed word for what two greetings do not agree in, None where they agree."""
    if any(own[name] != peer.get(name) for name in ("format", "spu")):
        return "other_version"
    if any(own[name] != peer.get(name) for name in ("context", "receiver", "both")):
        return "peer_disagrees"
    return None


def intersect(
    modules: tuple[Any, Any, str],
    task: dict[str, Any],
    lines: queue.SimpleQueue[str],
    tell: Callable[[dict[str, Any]], None],
) -> None:
    """Meet the other party's worker and intersect; the outcome is one last event."""
    spu, psi, version = modules
    try:
        context = spu.link.create_brpc(describe_link(spu.link, task), task["rank"])
    except RuntimeError:
        tell({"event": "failed", "reason": "peer_missing"})
        return
    tell({"event": "linked"})
    lines.get()
    agreed = {name: task[name] for name in ("context", "receiver", "both", "ids")}
    own = {"format": FORMAT, "spu": version} | agreed
    try:
        said = [json.loads(text) for text in context.all_gather(json.dumps(own))]
        peer = said[1 - task["rank"]]
        reason = disagreement(own, peer)
        if reason is None:
            psi.psi_execute(describe_intersection(psi, task), context)
    except (RuntimeError, ValueError, AttributeError):
        tell({"event": "failed", "reason": "peer_lost"})
        return
    remove_trace(Path.cwd())
    if reason is None:
        tell({"event": "done", "ids": task["ids"], "peer_ids": peer.get("ids")})
    else:
        tell({"event": "failed", "reason": reason})
    # The link is ended after the last event: the library aborts the process here when the other
    # party's is gone already, and by now nothing depends on it.
    context.stop_link()
    time.sleep(LINGER_SECONDS)


def hold_leash(folder: Path) -> queue.SimpleQueue[str]:
    """Read standard input in a thread, and end with everything when it ends.

    Returns:
        The queue of its lines.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def follow() -> None:
        for line in sys.stdin:
            lines.put(line)
        remove_trace(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    return lines


def remove_trace(folder: Path) -> None:
    """Remove the file that the library leaves outside of the private folder, if it says so."""
    # The library's lines may still be in the C library's buffer.
    ctypes.CDLL(None).fflush(None)
    try:
        log = (folder / LOG).read_bytes()
    except OSError:
        return
    for path in _TRACE.findall(log):
        Path(path.decode()).unlink(missing_ok=True)


def main() -> int:
    """Answer with the version, or do the one task that standard input names."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(json.dumps({"format": FORMAT, "spu": load_spu()[2]}) + "\n")
        return 0
    os.umask(0o077)
    folder = Path.cwd()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def tell(event: dict[str, Any]) -> None:
        answers.write(json.dumps(event) + "\n")
        answers.flush()

    lines = hold_leash(folder)
    task = json.loads(lines.get())
    most = task["memory_mb"] << 20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # A dump of this process would hold the ids.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    intersect(load_spu(), task, lines, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
