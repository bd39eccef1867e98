r"""Sealed openings, and the view keys that open them in bulk.

    line = seal(entry, opening, [view.named for view in keys], keys)
    opening = open_sealed(line, entry, views)          # views: what the operator handed out

An opening that an export does not show in the clear may stand in it encrypted. Each has a fresh
key of its own (the entry key), which is wrapped for the view of every agreement that the statement
rests on, in the epoch of the entry. So one key of 32 bytes opens what happened under one agreement
in one epoch, and nothing else. One statement alone is opened by its `Opening`.

Decides whether a line is a well-formed sealed opening, and whether a view opens it to what the
entry commits to. Does not decide who gets which view (`ledger.sealing`), nor whether the statement
was allowed (`ledger.rules`). Format: FORMATS.md, section "Sealed opening".

ChaCha20-Poly1305 (RFC 8439) does not commit to its key: a line could be made to open to two texts.
It cannot deceive, since only the text that the entry commits to is accepted.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ledger.encoding import b64decode, b64encode, canonical, parse
from ledger.entry import SALT_BYTES, Entry, Opening
from ledger.errors import EncodingError, EntryError, EvidenceError, ViewError
from ledger.key_files import read_secret, write_secret
from ledger.statements import Schedule
from ledger.statements.envelope import MAX_ENVELOPE

HEADING = "rongshu/views/v1"
BOX_NAMESPACE = "rongshu/sealed-opening/v1"
WRAP_NAMESPACE = "rongshu/view-wrap/v1"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
SMALLEST_BUCKET = 4096
"""Fewest bytes that an opening is padded to: nearly every statement fits, so that its length shows
nothing; longer ones show the power of two that they fit in."""
MAX_LINE = 4 << 20
MAX_WRAPS = 1024
MAX_VIEWS = 1_000_000
_LENGTH_BYTES = 4
# The entry key is used once, for one box: any fixed nonce will do.
_BOX_NONCE = bytes(NONCE_BYTES)


class Named(NamedTuple):
    """Which view: statements resting on an agreement, among the entries of an epoch.

    Attributes:
        agreement: index of the agreement's entry; -1 for what rests on none (closes of nodes).
        epoch: number of the epoch; 0 where the log has no schedule.
    """

    agreement: int
    epoch: int


NO_AGREEMENT = -1


@dataclass(frozen=True)
class View:
    """A view key, and what it opens."""

    named: Named
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Views:
    """View keys of one log: what an auditor is given, apart from any export.

    Attributes:
        origin: the log's name.
        keys: 32 bytes for each view.
    """

    origin: str
    keys: Mapping[Named, bytes] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the file: heading, origin, one line of canonical JSON for each view."""
        lines = [HEADING.encode(), self.origin.encode()]
        lines += [
            canonical({**_plain(named), "key": b64encode(key)})
            for named, key in sorted(self.keys.items())
        ]
        return b"\n".join(lines) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Views:
        """Read a file of view keys strictly.

        Raises:
            ViewError: outside the format; names the line, never a key.
        """
        *lines, rest = data.split(b"\n")
        if rest or len(lines) < 2 or lines[0] != HEADING.encode():
            raise ViewError(f"a file of view keys begins with {HEADING} and its last line ends")
        if len(lines) > MAX_VIEWS:
            raise ViewError(f"more than {MAX_VIEWS} view keys in one file")
        try:
            origin = lines[1].decode("utf-8")
        except UnicodeDecodeError:
            origin = ""
        if not origin.isprintable() or not origin or " " in origin:
            raise ViewError("line 2 of the view keys is not the name of a log")
        keys: dict[Named, bytes] = {}
        last: Named | None = None
        for number, line in enumerate(lines[2:], 3):
            try:
                view = _view(parse(line, limit=1024))
            except (EncodingError, EntryError) as error:
                raise ViewError(f"line {number} of the view keys: {error}") from None
            if last is not None and view.named <= last:
                raise ViewError(f"line {number} of the view keys is out of order, or stands twice")
            keys[view.named], last = view.key, view.named
        return cls(origin, keys)

    @classmethod
    def load(cls, path: Path) -> Views:
        """Read a file of mode 0600.

        Raises:
            InvalidKeyError: missing, open to others, too long or not text.
            ViewError: outside the format.
        """
        return cls.from_bytes(read_secret(path, limit=256 * MAX_VIEWS).encode())

    def save(self, path: Path) -> None:
        """Write a new file of mode 0600.

        Raises:
            InvalidKeyError: it exists already, or cannot be written.
        """
        write_secret(path, self.to_bytes().decode())

    def cover(self, views: Iterable[Named]) -> bool:
        """Whether one of these views is there."""
        return any(named in self.keys for named in views)


def views_of(agreements: Iterable[int], index: int, schedule: Schedule | None) -> tuple[Named, ...]:
    """Return the views that an entry belongs to; what anybody can tell from the public log.

    Args:
        agreements: indexes of the agreements that it rests on, see `History.agreements_under`.
        index: position of the entry.
        schedule: the log's, if it has one.
    """
    epoch = 0 if schedule is None else schedule.epoch_of(index)
    return tuple(Named(item, epoch) for item in sorted(agreements) or [NO_AGREEMENT])


@dataclass(frozen=True)
class Sealed:
    """A sealed opening as its line holds it.

    Attributes:
        index: position of the entry.
        box: the padded opening, encrypted under the entry key.
        wraps: for each view, in order, the entry key encrypted under the view key.
    """

    index: int
    box: bytes = field(repr=False)
    wraps: tuple[tuple[Named, bytes], ...] = field(repr=False)

    @property
    def views(self) -> tuple[Named, ...]:
        """The views that open it."""
        return tuple(named for named, _ in self.wraps)

    def to_bytes(self) -> bytes:
        """Return one line of canonical JSON, without the line break."""
        return canonical(
            {
                "box": b64encode(self.box),
                "index": self.index,
                "wraps": [{**_plain(named), "key": b64encode(key)} for named, key in self.wraps],
            }
        )

    @classmethod
    def from_bytes(cls, line: bytes) -> Sealed:
        """Read a line strictly.

        Raises:
            EntryError: not exactly one sealed opening.
        """
        try:
            value = parse(line, limit=MAX_LINE)
        except EncodingError as error:
            raise EntryError(f"malformed sealed opening: {error}") from error
        if not isinstance(value, dict) or set(value) != {"box", "index", "wraps"}:
            raise EntryError("a sealed opening has box, index and wraps, no more")
        wraps = value["wraps"]
        if not isinstance(wraps, list) or not 0 < len(wraps) <= MAX_WRAPS:
            raise EntryError(f"a sealed opening has 1 to {MAX_WRAPS} wraps")
        found = tuple(_wrap(item) for item in wraps)
        names = [named for named, _ in found]
        if names != sorted(set(names)) or len({named.epoch for named in names}) > 1:
            raise EntryError("the wraps are not in order, or of several epochs")
        box = _base64(value["box"])
        size = len(box) - TAG_BYTES
        if size < SMALLEST_BUCKET or size & (size - 1):
            raise EntryError(f"a box of {len(box)} bytes is not padded to a power of two")
        return cls(_number(value["index"], "index"), box, found)

    def open(self, entry: Entry, views: Views) -> Opening:
        """Return the opening, which is what the entry commits to.

        Raises:
            EvidenceError: none of these views is of it: it stays sealed.
            ViewError: no view key opens it: another key, or the line of another entry.
            EntryError: it opens, and is not what the entry commits to.
        """
        if self.index != entry.index:
            raise EntryError(f"sealed opening of entry {self.index} used for entry {entry.index}")
        held = [(named, wrap) for named, wrap in self.wraps if named in views.keys]
        if not held:
            raise EvidenceError(f"entry {entry.index} ({entry.kind}) is in none of these views")
        for named, wrap in held:
            nonce, wrapped = wrap[:NONCE_BYTES], wrap[NONCE_BYTES:]
            try:
                cipher = ChaCha20Poly1305(views.keys[named])
                key = cipher.decrypt(nonce, wrapped, _wrap_context(entry, named))
            except InvalidTag:
                continue
            return self._unpack(entry, key)
        raise ViewError(
            f"entry {entry.index}: the view key does not open it; ask for the keys of this export"
        )

    def _unpack(self, entry: Entry, key: bytes) -> Opening:
        try:
            text = ChaCha20Poly1305(key).decrypt(_BOX_NONCE, self.box, _box_context(entry))
        except InvalidTag:
            raise EntryError(f"entry {entry.index}: its sealed opening is damaged") from None
        length = int.from_bytes(text[:_LENGTH_BYTES], "big")
        start = _LENGTH_BYTES + SALT_BYTES
        envelope, padding = text[start : start + length], text[start + length :]
        if len(envelope) != length or padding.strip(b"\0") or len(text) != _bucket(length):
            raise EntryError(f"entry {entry.index}: its sealed opening is padded wrongly")
        opening = Opening(entry.index, text[_LENGTH_BYTES:start], envelope)
        # Until here the operator's word; from here what the log committed to.
        opening.reveal(entry)
        return opening


def seal(entry: Entry, opening: Opening, views: Sequence[View]) -> bytes:
    """Encrypt an opening for the holders of views; return the line, without the line break.

    Args:
        entry: whose opening it is.
        opening: salt and statement.
        views: keys of exactly the views that the entry belongs to, see `views_of`.

    Raises:
        EntryError: the opening is of another entry, is too long, or there is no view.
    """
    opening.reveal(entry)
    length = len(opening.envelope)
    if length > MAX_ENVELOPE or not 0 < len(views) <= MAX_WRAPS:
        raise EntryError(f"entry {entry.index} cannot be sealed for {len(views)} views")
    text = length.to_bytes(_LENGTH_BYTES, "big") + opening.salt + opening.envelope
    key = ChaCha20Poly1305.generate_key()
    box = ChaCha20Poly1305(key).encrypt(
        _BOX_NONCE, text.ljust(_bucket(length), b"\0"), _box_context(entry)
    )
    wraps = []
    for view in sorted(views, key=lambda item: item.named):
        # A view key wraps many entry keys, again for each export: the nonce must not repeat.
        nonce = secrets.token_bytes(NONCE_BYTES)
        wrapped = ChaCha20Poly1305(view.key).encrypt(nonce, key, _wrap_context(entry, view.named))
        wraps.append((view.named, nonce + wrapped))
    return Sealed(entry.index, box, tuple(wraps)).to_bytes()


def open_sealed(line: bytes, entry: Entry, views: Views) -> Opening:
    """Open one line of a file of sealed openings.

    Args:
        line: without its line break.
        entry: the log's entry that it belongs to.
        views: what the operator handed out.

    Raises:
        EntryError, EvidenceError, ViewError: as `Sealed.from_bytes` and `Sealed.open`.
    """
    return Sealed.from_bytes(line).open(entry, views)


def _bucket(length: int) -> int:
    """Return the padded size of an envelope of this length: a power of two."""
    needed = _LENGTH_BYTES + SALT_BYTES + length
    return max(SMALLEST_BUCKET, 1 << (needed - 1).bit_length())


def _box_context(entry: Entry) -> bytes:
    return f"{BOX_NAMESPACE}\0{entry.index}\0".encode() + entry.commitment


def _wrap_context(entry: Entry, named: Named) -> bytes:
    text = f"{WRAP_NAMESPACE}\0{entry.index}\0{named.agreement}\0{named.epoch}\0"
    return text.encode() + entry.commitment


def _plain(named: Named) -> dict[str, Any]:
    agreement = None if named.agreement == NO_AGREEMENT else named.agreement
    return {"agreement": agreement, "epoch": named.epoch}


def _keyed(value: Any, length: int) -> tuple[Named, bytes]:
    if not isinstance(value, dict) or set(value) != {"agreement", "epoch", "key"}:
        raise EntryError("expected agreement, epoch and key, no more")
    number = value["agreement"]
    agreement = NO_AGREEMENT if number is None else _number(number, "agreement")
    key = _base64(value["key"])
    if len(key) != length:
        raise EntryError(f"key has not {length} bytes")
    return Named(agreement, _number(value["epoch"], "epoch")), key


def _view(value: Any) -> View:
    return View(*_keyed(value, KEY_BYTES))


def _wrap(value: Any) -> tuple[Named, bytes]:
    return _keyed(value, NONCE_BYTES + KEY_BYTES + TAG_BYTES)


def _number(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise EntryError(f"{name} is not a whole number from 0 up")
    return value


def _base64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise EntryError("expected text")
    try:
        return b64decode(value)
    except EncodingError as error:
        raise EntryError(f"malformed sealed opening: {error}") from error
