"""A log that is written in bulk: entries, tree and openings without a database, then an export.

    book = Book(key, folder)
    index = book.append("job", references, envelope, time)
    export(book, key, folder, opened=…, extras=…)        # it answers as a log does

It checks nothing: it is the pen of a signer who may be dishonest. Envelopes rest in one file beside
the export, so memory holds hashes and entries alone.
"""

import hashlib
import json
from array import array
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger.checkpoint import Checkpoint
from ledger.checkpoint import sign as sign_checkpoint
from ledger.entry import NO_PREDECESSOR, Opening, commitment
from ledger.keys import SigningKey, VerifyKey
from ledger.merkle import Tree, leaf_hash
from ledger.tiles import Tile, tile_bytes

encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
"""Canonical for ASCII text and whole numbers, which is all that is written here."""


def statement_id(kind: str, envelope: bytes) -> str:
    digest = hashlib.sha256(b"rongshu/statement-id/v1\0" + envelope)
    return f"{kind}:{digest.hexdigest()}"


def seal(kind: str, version: int, payload: dict[str, Any], *keys: SigningKey) -> bytes:
    """An envelope as `ledger.statements.envelope.sign` makes it, in a third of its time."""
    body = encode(payload).encode()
    media = f"application/vnd.rongshu.{kind}.v{version}+json".encode()
    message = b"DSSEv1 %d %b %d %b" % (len(media), media, len(body), body)
    signed = sorted((key.verify_key.fingerprint, key.sign(message)) for key in keys)
    listed = ",".join(
        f'{{"keyid":"{key_id}","sig":"{b64encode(signature).decode()}"}}'
        for key_id, signature in signed
    )
    return (
        f'{{"payload":"{b64encode(body).decode()}","payloadType":"{media.decode()}",'
        f'"signatures":[{listed}]}}'
    ).encode()


class Book:
    """The log so far.

    Args:
        key: the log's.
        folder: for the envelopes.
        seed: of the salts.
    """

    def __init__(self, key: SigningKey, folder: Path, seed: int) -> None:
        self.key = key
        self.tree = Tree()
        self.entries: list[bytes] = []
        self.swapped: dict[int, bytes] = {}
        self._previous = NO_PREDECESSOR
        self._seed = b"%d " % seed
        self._envelopes = (folder / "envelopes").open("w+b")
        self._starts = array("Q", [0])

    @property
    def size(self) -> int:
        return len(self.entries)

    def append(
        self,
        kind: str,
        references: Sequence[int | None],
        envelope: bytes,
        time: int,
        previous: bytes | None = None,
    ) -> int:
        """Add an entry and return its index."""
        index = self.size
        value = {
            "commitment": b64encode(commitment(self._salt(index), envelope)).decode(),
            "index": index,
            "kind": kind,
            "previous": b64encode(previous or self._previous).decode(),
            "references": list(references),
            "time": time,
            "v": 1,
        }
        data = encode(value).encode()
        self.entries.append(data)
        self._previous = leaf_hash(data)
        self.tree.append(self._previous)
        self._envelopes.write(envelope)
        self._starts.append(self._starts[-1] + len(envelope))
        return index

    def _salt(self, index: int) -> bytes:
        return hashlib.sha256(b"salt %b%d" % (self._seed, index)).digest()

    # What `ledger.export.export` asks of a log.

    @property
    def vkey(self) -> VerifyKey:
        return self.key.verify_key

    def checkpoint(self) -> bytes:
        return sign_checkpoint(Checkpoint(self.key.name, self.size, self.tree.root()), self.key)

    def tile(self, path: str) -> bytes:
        return tile_bytes(self.tree, Tile.from_path(path), lambda a, b: self.entries[a:b])

    def openings(self, start: int, stop: int) -> list[Opening]:
        self._envelopes.seek(self._starts[start])
        data = self._envelopes.read(self._starts[stop] - self._starts[start])
        self._envelopes.seek(0, 2)
        base = self._starts[start]
        return [
            Opening(
                index,
                self._salt(index),
                self.swapped.get(index)
                or data[self._starts[index] - base : self._starts[index + 1] - base],
            )
            for index in range(start, stop)
        ]

    def envelope(self, index: int) -> bytes:
        return self.openings(index, index + 1)[0].envelope

    def close(self) -> None:
        self._envelopes.close()
