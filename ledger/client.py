"""Follows a log from outside and believes nothing that it has not verified.

    client = LogClient(http, VerifyKey.from_text("rongshu.example/log+…"), Path("highest"))
    client = LogClient(http, Policy.parse(text), Path("highest"), max_age=600, clock=now_ms)
    client.sync()
    client.history.by_id["grant:9f…"].index

Reads every entry up to the newest checkpoint, rebuilds the tree itself and compares the root, so a
checkpoint that is not an extension of the highest one ever verified is refused, across restarts
too. The statements that the server shows are tied to their entries by their commitments. A
revocation may not stay sealed: whoever cannot read one must assume that it ends everything.

A log can betray its reader in three ways, each with an error of its own:

- it shows less than before (`RolledBackError`);
- it signed another history (`SplitViewError`): what proves it is kept beside the memory, as
  `fork.proof` (`ledger.fork`) or, where the proof would take entries that were not kept, as the two
  checkpoints. While they are there no checkpoint of this log is believed again: a person must look;
- it shows nothing new (`StaleLogError`), which only a quorum of witnesses lets a reader notice: a
  log signs no time, so without witnesses an old checkpoint and a quiet log look the same.

A log may change its key: where a checkpoint is signed by none that is trusted, the log is asked for
its successions, and those that lead on from trusted keys are followed and kept beside the memory,
as `successions`. From then on the old key signs nothing larger for this reader.

`http` is any `httpx.Client` with the server as its base address: over a network or, with all
roles on one machine, straight into the application. The bytes are the same.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx

from ledger import durable, rules
from ledger.checkpoint import Checkpoint
from ledger.entry import Entry, Opening
from ledger.errors import (
    EncodingError,
    EntryError,
    EvidenceError,
    LedgerError,
    LogError,
    PolicyError,
    RolledBackError,
    SplitViewError,
    StaleLogError,
    StatementError,
    TrustError,
)
from ledger.fork import compare
from ledger.history import History
from ledger.keys import VerifyKey
from ledger.merkle import EMPTY_ROOT, CompactRange, Tree, leaf_hash
from ledger.statements import Revocation, Unverified
from ledger.succession import MAX_LIST, SUCCESSIONS_PATH, read_list, write_list
from ledger.tile_tree import TileTree
from ledger.tiles import WIDTH, Tile, decode_bundle, tile_bytes
from ledger.trust import NONE, Policy, Trusted

PAGE = 256
PROOF_FILE = "fork.proof"
SUCCESSIONS_FILE = "successions"
VIEW_FILES = ("split-view.first", "split-view.second")


class LogClient:
    """One reader of one log, with a memory of the highest checkpoint it verified.

    Args:
        http: client whose base address is the service; carries the reader's credentials.
        trust: the log's key, from elsewhere; or a policy, which may ask for a quorum of witnesses.
        memory: file that holds the highest verified checkpoint; made when there is none. Beside it
            lie the changes of the log's key that were followed.
        max_age: seconds since a quorum of witnesses saw the newest checkpoint, after which it is
            refused; None for no limit.
        clock: returns Unix milliseconds; needed where there is a limit.

    Raises:
        TrustError: the memory is of another log.
        NoteError, SignatureError: the successions beside it are damaged.
        PolicyError: an age is to be limited, and no quorum is required that could tell it.
    """

    def __init__(
        self,
        http: httpx.Client,
        trust: VerifyKey | Policy,
        memory: Path,
        *,
        max_age: int | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._http = http
        self._policy = Policy.of(trust) if isinstance(trust, VerifyKey) else trust
        if max_age is not None and (self._policy.quorum == NONE or clock is None):
            raise PolicyError(
                "how old a checkpoint is can be told by witnesses alone: limit its age under a "
                "policy with a quorum of them, and with a clock"
            )
        self._memory = memory
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._range = CompactRange()
        self._signed = b""
        self._last: tuple[bytes, Trusted] | None = None
        self._highest = self._remember()
        self.history = History()
        self.broken: list[str] = []

    @property
    def size(self) -> int:
        """Entries read and verified so far."""
        return self._range.size

    def sync(self, handed: bytes | None = None) -> Checkpoint:
        """Read on to the newest checkpoint and return it, verified.

        Args:
            handed: the newest, signed, as somebody handed it over; the server is asked where None,
                or where this reader knows a newer one.

        Raises:
            RolledBackError: the log shows less than was verified before.
            SplitViewError: the log signed another history, now or earlier; the proof was kept.
            StaleLogError: its witnesses saw the newest checkpoint too long ago.
            TrustError: too few witnesses cosigned it, no trusted key or successor of one signed it,
                or the log withholds what must be readable.
            LogError: the server did not answer as one should; nothing changed.
            LedgerError: what the server sent is malformed.
        """
        with self._lock:
            self._refuse_known_split()
            signed = self._newest(handed)
            policy, trusted = self._opened(signed)
            newest = trusted.checkpoint
            self._refuse_other_head(signed, newest)
            grows = newest.size > self.size
            if grows:
                self._read_on(signed, newest, policy)
            # First: without it, the memory would be signed by a key that nobody knows.
            self._follow(policy)
            if grows:
                durable.replace(self._memory, signed)
                self._signed = signed
            self._last = signed, trusted
            # Last: what is too old to act upon is still a history to hold the next one against.
            self._refuse_stale(trusted)
            return newest

    def _newest(self, handed: bytes | None) -> bytes:
        if handed is not None:
            try:
                self._refuse_other_head(handed, self._opened(handed)[1].checkpoint)
            except RolledBackError:
                # Whoever handed it over had it from before.
                pass
            else:
                return handed
        return self._get("/v1/log/checkpoint")

    def _opened(self, signed: bytes) -> tuple[Policy, Trusted]:
        """Return a checkpoint that is trusted, and the policy that it takes."""
        if self._last is not None and self._last[0] == signed:
            return self._policy, self._last[1]
        try:
            return self._policy, self._policy.open_checkpoint(signed)
        except TrustError:
            policy = self._informed()
            if policy is None:
                raise
        trusted = policy.open_checkpoint(signed)
        if self._signed:
            # The old key may have signed it after its end: then one of them is a thief's.
            _any_quorum(policy).open_checkpoint(self._signed)
        return policy, trusted

    def _informed(self) -> Policy | None:
        """Return the policy with the successions that the log shows; None where none is new."""
        try:
            notes = read_list(self._get_at_most(SUCCESSIONS_PATH, MAX_LIST))
        except LogError:
            # It shows none: what is wrong with its checkpoint says more.
            return None
        fresh = [item for item in notes if item not in self._policy.successions]
        return self._policy.following(fresh) if fresh else None

    def _follow(self, policy: Policy) -> None:
        if policy is not self._policy:
            durable.replace(self._memory.with_name(SUCCESSIONS_FILE), write_list(policy.followed))
            self._policy = replace(policy, successions=policy.followed)

    def _refuse_known_split(self) -> None:
        for name in (PROOF_FILE, VIEW_FILES[0]):
            path = self._memory.with_name(name)
            if path.exists():
                raise SplitViewError(
                    f"this log signed two histories: {path} shows it. Nothing it says is believed "
                    "until a person has looked and moved the file away"
                )

    def _refuse_other_head(self, signed: bytes, newest: Checkpoint) -> None:
        """Hold a head that is no larger than the highest against what is known of that size."""
        highest = self._highest or Checkpoint(newest.origin, 0, EMPTY_ROOT)
        if newest.size > highest.size:
            return
        if newest.size == highest.size:
            if newest.root != highest.root:
                raise self._split(signed, newest)
            return
        if newest.size <= self.size and self._tree().root(newest.size) != newest.root:
            raise self._split(signed, newest)
        raise RolledBackError(
            f"the log shows {newest.size} entries, {highest.size} were verified before: it went "
            "back"
        )

    def _refuse_stale(self, trusted: Trusted) -> None:
        if self._max_age is None or self._clock is None:
            return
        age = self._clock() // 1000 - (trusted.witnessed_at or 0)
        if abs(age) > self._max_age:
            told = f"{age} s ago" if age > 0 else f"{-age} s from now, so a clock is wrong"
            raise StaleLogError(
                f"a quorum of witnesses saw the checkpoint of {trusted.checkpoint.size} entries "
                f"{told}; {self._max_age} s are allowed"
            )

    def _read_on(self, signed: bytes, newest: Checkpoint, policy: Policy) -> None:
        entries = self._fetch_entries(newest.size)
        leaves = [leaf for _, leaf in entries]
        grown = self._check_root(leaves, signed, newest)
        self._check_heads(leaves, policy.heads(newest.origin))
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

    def _check_root(self, leaves: list[bytes], signed: bytes, newest: Checkpoint) -> CompactRange:
        grown, before = self._range, self._highest
        fits = before is None or before.size == 0
        for leaf in leaves:
            if before and grown.size == before.size:
                fits = grown.root() == before.root
            grown = grown.append(leaf)
        if grown.root() != newest.root:
            if before and self._is_split(newest, before):
                raise self._split(signed, newest)
            raise TrustError(f"the entries do not have the root that is signed for {newest.size}")
        if before and grown.size == before.size:
            fits = grown.root() == before.root
        if not fits:
            raise self._split(signed, newest)
        return grown

    def _check_heads(self, leaves: list[bytes], heads: dict[int, bytes]) -> None:
        """Hold each tree at which the log changed its key against the entries."""
        grown, start = self._range, self.size
        for size in sorted(size for size in heads if start <= size <= start + len(leaves)):
            grown = grown.extend(leaves[grown.size - start : size - start])
            if grown.root() != heads[size]:
                raise SplitViewError(
                    f"the log changed its key at {size} entries under another root than that of "
                    "its entries: two histories"
                )

    def _is_split(self, newest: Checkpoint, before: Checkpoint) -> bool:
        """Whether the log signed for `newest` what does not extend `before`; its tiles tell."""
        theirs = TileTree(newest.size, lambda tile: self._get(f"/v1/log/{tile.path}"))
        try:
            if theirs.root() != newest.root:
                return False
            return before.size > 0 and theirs.root(before.size) != before.root
        except LedgerError:
            # Tiles that are not those of the checkpoint say nothing about the log's key.
            return False

    def _split(self, signed: bytes, newest: Checkpoint) -> SplitViewError:
        """Keep what proves two histories, and return the error that says so."""
        mine, theirs = self._tree(), None
        # Only entries up to the highest checkpoint are known; after a restart, none may be.
        known = self._highest is not None and mine.size == self._highest.size
        own = TileTree(mine.size, lambda tile: tile_bytes(mine, tile, lambda *_: ()))
        if self._highest is None or newest.size != self._highest.size:
            theirs = TileTree(newest.size, lambda tile: self._get(f"/v1/log/{tile.path}"))
        try:
            fork = compare((self._signed, own if known else None), (signed, theirs))
        except LedgerError:
            fork = None
        with suppress(OSError):
            if fork is not None:
                durable.replace(self._memory.with_name(PROOF_FILE), fork.to_bytes())
            else:
                for name, data in zip(VIEW_FILES, (self._signed, signed), strict=True):
                    durable.replace(self._memory.with_name(name), data)
        kept = PROOF_FILE if fork is not None else VIEW_FILES[0]
        return SplitViewError(
            f"the log signed a checkpoint of {newest.size} entries that contradicts the one of "
            f"{self._highest.size if self._highest else 0} verified before: two histories. See "
            f"{self._memory.with_name(kept)}"
        )

    def _tree(self) -> Tree:
        """Build the tree of the entries read so far; only a betrayed reader needs it."""
        return Tree.from_leaf_hashes(leaf_hash(e.to_bytes()) for e in self.history.entries)

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

    def _get_at_most(self, path: str, limit: int) -> bytes:
        try:
            with self._http.stream("GET", path) as answer:
                answer.raise_for_status()
                data = b""
                for part in answer.iter_bytes():
                    data += part
                    if len(data) > limit:
                        raise LogError(f"{path}: the answer has more than {limit} bytes")
        except httpx.HTTPError as error:
            raise LogError(f"{path}: the log did not answer: {error}") from error
        return data

    def _remember(self) -> Checkpoint | None:
        kept = self._memory.with_name(SUCCESSIONS_FILE)
        if kept.exists():
            known = self._policy.successions
            notes = [item for item in read_list(kept.read_bytes()) if item not in known]
            self._policy = self._policy.following(notes)
        if not self._memory.exists():
            return None
        self._signed = self._memory.read_bytes()
        return _any_quorum(self._policy).open_checkpoint(self._signed).checkpoint


def _any_quorum(policy: Policy) -> Policy:
    """Return the policy without its witnesses: a head was verified under the quorum of its day."""
    return replace(policy, witnesses=(), groups=(), quorum=NONE)


def _openings(data: bytes) -> list[Opening]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EncodingError("the server's answer is no JSON") from error
    if not isinstance(value, dict) or not isinstance(value.get("openings"), list):
        raise EncodingError("the server's answer holds no list of openings")
    return [Opening.from_json(item) for item in value["openings"]]
