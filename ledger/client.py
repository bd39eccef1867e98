"""Follows a log from outside and believes nothing that it has not verified.

    client = LogClient(http, VerifyKey.from_text("rongshu.example/log+…"), Path("highest"))
    client.sync()
    client.history.by_id["grant:9f…"].index

Reads every entry up to the newest checkpoint, rebuilds the tree itself and compares the root, so a
checkpoint that is not an extension of the highest one ever verified is refused, across restarts
too. The statements that the server shows are tied to their entries by their commitments. A
revocation may not stay sealed: whoever cannot read one must assume that it ends everything.

`http` is any `httpx.Client` with the server as its base address: over a network or, with all
roles on one machine, straight into the application. The bytes are the same.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx

from ledger import durable, rules
from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.entry import Entry, Opening
from ledger.errors import (
    EncodingError,
    EntryError,
    EvidenceError,
    LedgerError,
    LogError,
    StatementError,
    TrustError,
)
from ledger.history import History
from ledger.keys import VerifyKey
from ledger.merkle import CompactRange, leaf_hash
from ledger.statements import Revocation, Unverified
from ledger.tiles import WIDTH, Tile, decode_bundle

PAGE = 256


class LogClient:
    """One reader of one log, with a memory of the highest checkpoint it verified.

    Args:
        http: client whose base address is the service; carries the reader's credentials.
        key: the log's key, from elsewhere.
        memory: file that holds the highest verified checkpoint; made when there is none.

    Raises:
        TrustError: the memory is of another log.
    """

    def __init__(self, http: httpx.Client, key: VerifyKey, memory: Path) -> None:
        self._http = http
        self._key = key
        self._memory = memory
        self._lock = threading.Lock()
        self._range = CompactRange()
        self._highest = self._remember()
        self.history = History()
        self.broken: list[str] = []

    @property
    def size(self) -> int:
        """Entries read and verified so far."""
        return self._range.size

    def sync(self) -> Checkpoint:
        """Read on to the server's newest checkpoint and return it, verified.

        Raises:
            TrustError: the log went back, was rewritten, or withholds what must be readable.
            LogError: the server did not answer as one should; nothing changed.
            LedgerError: what the server sent is malformed.
        """
        with self._lock:
            signed = self._get("/v1/log/checkpoint")
            newest = open_checkpoint(signed, self._key)
            floor = self._highest.size if self._highest else 0
            if newest.size < max(self.size, floor):
                raise TrustError(
                    f"the log shows {newest.size} entries, {max(self.size, floor)} were verified "
                    "before: it went back"
                )
            if newest.size > self.size:
                self._read_on(newest)
                durable.replace(self._memory, signed)
            elif newest.root != self._range.root():
                raise TrustError(f"the log shows two histories of {newest.size} entries")
            return newest

    def _read_on(self, newest: Checkpoint) -> None:
        entries = self._fetch_entries(newest.size)
        grown = self._check_root([leaf for _, leaf in entries], newest)
        openings = self._fetch_openings(newest.size)
        revealed = [self._reveal(entry, openings) for entry, _ in entries]
        # From here nothing can fail half way: admit what was verified, then remember it.
        for (entry, leaf), opened in zip(entries, revealed, strict=True):
            try:
                rules.admit(self.history, entry, leaf, opened)
            except EvidenceError:
                # A party sees its own side: the rest of this statement's grounds stay sealed.
                if opened is not None and isinstance(opened.statement, Revocation):
                    # Whoever hides an issuer must not thereby undo what it revoked.
                    self.history.revoked.setdefault(opened.statement.target, entry.index)
            except LedgerError as error:
                self.broken.append(str(error))
        self._range = grown
        self._highest = newest

    def _fetch_entries(self, size: int) -> list[tuple[Entry, bytes]]:
        found: list[tuple[Entry, bytes]] = []
        start = self.size
        for number in range(start // WIDTH, (size - 1) // WIDTH + 1):
            width = min(WIDTH, size - number * WIDTH)
            data = self._get(f"/v1/log/{Tile(None, number, width).path}")
            raw = decode_bundle(data, width)
            skip = max(0, start - number * WIDTH)
            found.extend((Entry.from_bytes(item), leaf_hash(item)) for item in raw[skip:])
        return found

    def _check_root(self, leaves: list[bytes], newest: Checkpoint) -> CompactRange:
        grown = self._range
        memory = self._highest
        for leaf in leaves:
            grown = grown.append(leaf)
            if memory and grown.size == memory.size and grown.root() != memory.root:
                raise TrustError(
                    f"entry {grown.size - 1} or one before it was changed since the checkpoint of "
                    f"{memory.size} entries was verified"
                )
        if grown.root() != newest.root:
            raise TrustError(f"the entries do not have the root that is signed for {newest.size}")
        return grown

    def _fetch_openings(self, size: int) -> dict[int, Opening]:
        found: dict[int, Opening] = {}
        for start in range(self.size, size, PAGE):
            stop = min(size, start + PAGE)
            data = self._get(f"/v1/log/openings?start={start}&end={stop}")
            for opening in _openings(data):
                if start <= opening.index < stop:
                    found[opening.index] = opening
        return found

    def _reveal(self, entry: Entry, openings: dict[int, Opening]) -> Unverified | None:
        opening = openings.get(entry.index)
        if opening is None:
            if entry.kind == "revocation":
                raise TrustError(f"entry {entry.index} is a revocation that the log withholds")
            return None
        try:
            return opening.reveal(entry)
        except (EntryError, StatementError) as error:
            raise TrustError(f"the log shows a false statement: {error}") from error

    def _get(self, path: str) -> bytes:
        try:
            answer = self._http.get(path)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise LogError(f"{path}: the log did not answer: {error}") from error
        return answer.content

    def _remember(self) -> Checkpoint | None:
        if not self._memory.exists():
            return None
        return open_checkpoint(self._memory.read_bytes(), self._key)


def _openings(data: bytes) -> list[Opening]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EncodingError("the server's answer is no JSON") from error
    if not isinstance(value, dict) or not isinstance(value.get("openings"), list):
        raise EncodingError("the server's answer holds no list of openings")
    return [Opening.from_json(item) for item in value["openings"]]
