"""Be a witness: cosign the newest checkpoint of a log once it extends the last one.

Over HTTP (`serve`), or with files where there is no network: `request` makes a request from an
export, `cosign` answers it. `ledger.witness` decides what is cosigned.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ledger import checkpoint as checkpoints
from ledger.audit.arguments import add_command, complain
from ledger.audit.text import clean
from ledger.errors import ExportError, InvalidKeyError, LedgerError, WitnessError
from ledger.keys import COSIGNATURE_ED25519, COSIGNATURE_MLDSA, CosigningKey
from ledger.merkle import HASH_BYTES, Tree
from ledger.note import MAX_BYTES, split_unverified
from ledger.tiles import Tile, layout
from ledger.witness import MAX_REQUEST, PATH, LogKey, Request, Witness, read_log_key

REFUSED = 1
LISTEN = "127.0.0.1:8449"
MAX_KEY_FILE = 4096

EXAMPLES = """\
examples:
  rongshu audit witness init witness --name witness.example/north --log @log.vkey
  rongshu audit witness serve witness
  rongshu audit witness request out/export --old 18 --out request
  rongshu audit witness cosign witness request --out cosignature
"""
EXITS = """\
exit codes:
  0   done; with `cosign`: cosigned
  1   refused, with the reason
  64  wrong usage, or a key or file that cannot be used
"""
BACKUP = """\
A witness must never forget what it cosigned: do not copy its folder, and never restore it from a
backup. If it is lost, make a new one with a new key.
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit witness` and its steps."""
    witness = add_command(
        subparsers,
        "witness",
        "be a witness: cosign checkpoints that extend the last one",
        f"{BACKUP}\n{EXAMPLES}\n{EXITS}",
    )
    steps = witness.add_subparsers(dest="step", metavar="STEP", required=True)
    init = _step(steps, "init", _init, "make a new witness, and print its verifier keys")
    init.add_argument("--name", required=True, help="its name, a URL without scheme by custom")
    init.add_argument("--ml-dsa", action="store_true", help="a second key, ML-DSA-44")
    _log(init, needed=False)
    trust = _step(steps, "trust", _trust, "cosign a further log, or a log's further key")
    _log(trust, needed=True)
    _step(steps, "show", _show, "show keys, logs, and the size cosigned last")
    serve = _step(steps, "serve", _serve, "answer over HTTP until Ctrl-C")
    serve.add_argument("--listen", metavar="HOST:PORT", default=LISTEN, help=f"default: {LISTEN}")
    cosign = _step(steps, "cosign", _cosign, "answer a request in a file")
    cosign.add_argument("request", metavar="REQUEST", type=Path, help="`-` is standard input")
    request = _step(steps, "request", _request, "make a request from an export", folder="EXPORT")
    request.add_argument("--old", type=int, default=0, help="size that the witness cosigned last")
    for parser in (cosign, request):
        parser.add_argument("--out", metavar="FILE", type=Path, help="default: standard output")


def _step(steps: Any, name: str, run: Any, summary: str, folder: str = "WITNESS") -> Any:
    lines = [line for line in EXAMPLES.splitlines() if f" witness {name} " in line]
    epilog = "\n".join(["examples:", *lines, "", EXITS]) if lines else EXITS
    parser = add_command(steps, name, summary, epilog)
    parser.add_argument("folder", metavar=folder, type=Path, help="its folder")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.set_defaults(run=_guarded, step_run=run)
    return parser


def _log(parser: argparse.ArgumentParser, *, needed: bool) -> None:
    parser.add_argument(
        "--log",
        metavar="VKEY|@FILE",
        action="append",
        required=needed,
        default=[],
        help="verifier key of a log to cosign, or @FILE that holds it; may be repeated",
    )


def _guarded(arguments: argparse.Namespace) -> int:
    try:
        code: int = arguments.step_run(arguments)
    except WitnessError as error:
        if arguments.json:
            _print({"status": error.status, "size": error.size, "message": str(error)})
        else:
            complain(f"witness {arguments.step}: {clean(str(error))}")
        return REFUSED
    except LedgerError as error:
        return complain(f"witness {arguments.step}: {clean(str(error))}")
    except OSError as error:
        where = clean(str(error.filename or ""))
        return complain(f"witness {arguments.step}: {where}: {error.strerror}")
    return code


def _init(arguments: argparse.Namespace) -> int:
    logs = [_read_key(text) for text in arguments.log]
    kinds = (COSIGNATURE_ED25519, *((COSIGNATURE_MLDSA,) if arguments.ml_dsa else ()))
    Witness.create(arguments.folder, [CosigningKey.generate(arguments.name, k) for k in kinds])
    return _trusting(arguments, logs)


def _trust(arguments: argparse.Namespace) -> int:
    return _trusting(arguments, [_read_key(text) for text in arguments.log])


def _trusting(arguments: argparse.Namespace, logs: list[LogKey]) -> int:
    witness = _open(arguments)
    for key in logs:
        witness.trust(key)
    return _show(arguments)


def _show(arguments: argparse.Namespace) -> int:
    witness = _open(arguments)
    logs = {origin: witness.seen(origin) for origin in witness.origins()}
    if arguments.json:
        _print(
            {
                "keys": [key.text for key in witness.keys],
                "logs": {
                    origin: {
                        "keys": [key.text for key in witness.log_keys(origin)],
                        "size": seen.size,
                        "time": seen.time,
                    }
                    for origin, seen in logs.items()
                },
            }
        )
        return 0
    for key in witness.keys:
        _say(f"key:  {key.text}\n      {key.fingerprint}")
    for origin, seen in logs.items():
        _say(f"log:  {clean(origin)}, cosigned up to {seen.size} entries")
    if not logs:
        _say("log:  none yet; add one with `rongshu audit witness trust`")
    return 0


def _cosign(arguments: argparse.Namespace) -> int:
    if str(arguments.request) == "-":
        data = sys.stdin.buffer.read(MAX_REQUEST + 1)
    else:
        data = _read(arguments.request, MAX_REQUEST)
    _write(arguments, _open(arguments).add_checkpoint(data))
    return 0


def _request(arguments: argparse.Namespace) -> int:
    signed, tree = _tree_of(arguments.folder)
    old: int = arguments.old
    if not 0 <= old <= tree.size:
        return complain(f"--old: the export has {tree.size} entries, so 0 to {tree.size} is needed")
    proof = tree.consistency(old, tree.size) if old else ()
    _write(arguments, Request(old, proof, signed).to_bytes())
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    # Imported here: no other step needs a server.
    from ledger.audit.witness_server import WitnessServer  # noqa: PLC0415

    host, _, port = arguments.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        return complain("--listen: give a host and a port, 127.0.0.1:8449 for example")
    witness = _open(arguments)
    with WitnessServer((host.strip("[]"), int(port)), witness, _log_line) as server:
        where = f"http://{host}:{server.server_address[1]}"
        if arguments.json:
            _print({"address": where, "keys": [key.text for key in witness.keys]})
        else:
            _say(f"cosigning at {where}{PATH}; Ctrl-C stops")
        server.serve_forever()
    return 0


def _tree_of(folder: Path) -> tuple[bytes, Tree]:
    """Return the checkpoint of an export and its tree, not verified: a witness does that."""
    signed = _read(folder / "checkpoint", MAX_BYTES)
    size = checkpoints.parse(split_unverified(signed)[0]).size
    tree = Tree()
    for tile in layout(size):
        if tile.level == 0:
            data = _tile(folder, tile)
            for start in range(0, len(data), HASH_BYTES):
                tree.append(data[start : start + HASH_BYTES])
    return signed, tree


def _tile(folder: Path, tile: Tile) -> bytes:
    data = _read(folder / tile.path, tile.width * HASH_BYTES)
    if len(data) != tile.width * HASH_BYTES:
        raise ExportError(f"{tile.path} does not hold {tile.width} hashes")
    return data


def _open(arguments: argparse.Namespace) -> Witness:
    return Witness(arguments.folder, lambda: int(time.time()))


def _read_key(text: str) -> LogKey:
    if text.startswith("@"):
        text = _read(Path(text[1:]), MAX_KEY_FILE).decode("utf-8", "replace")
    try:
        return read_log_key(text.strip())
    except InvalidKeyError as error:
        raise InvalidKeyError(f"--log: {error}") from None


def _read(path: Path, most: int) -> bytes:
    # Not blocking: a named pipe in the file's place must not hang.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        data = file.read(most + 1)
    if len(data or b"") > most:
        raise ExportError(f"{path} is longer than {most} bytes")
    return data or b""


def _write(arguments: argparse.Namespace, data: bytes) -> None:
    if arguments.out is not None:
        arguments.out.write_bytes(data)
    if arguments.json:
        _print({"out": str(arguments.out) if arguments.out else None, "text": data.decode()})
    elif arguments.out is None:
        sys.stdout.write(data.decode())


def _log_line(line: str) -> None:
    sys.stderr.write(f"{clean(line)}\n")
    sys.stderr.flush()


def _print(value: object) -> None:
    _say(json.dumps(value))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
