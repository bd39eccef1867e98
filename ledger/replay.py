"""Replays the rules over an export: what can be read alone is read anywhere, the rest in order.

    reader = Reader(folder, contents, set())     # in any process: parse, open, verify signatures
    part = reader.read(number, replay.keys)
    replay = Replay(contents, report, history)   # in one process: the rules, entry by entry
    replay.take(part)

What a statement says and whether its signatures verify depends on its bytes and on keys alone; so
that is found out ahead of the rules, under the keys that the log has named so far. Which keys were
the right ones depends on history: `ledger.rules` asks for exactly these, and what was verified
under others, or not verified ahead, is verified then. So the verdict does not depend on how many
processes worked for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ledger import rules
from ledger.entry import Entry, Opening
from ledger.errors import (
    EncodingError,
    EntryError,
    EvidenceError,
    InvalidKeyError,
    LedgerError,
    SealedGroundsError,
    SignatureError,
    StatementError,
    ViewError,
)
from ledger.finding import Finding, Report
from ledger.folder import Folder
from ledger.history import History
from ledger.keys import VerifyKey
from ledger.manifest import ERASED, OPENED, SEALED, Contents, openings_path, sealed_path
from ledger.merkle import leaf_hash
from ledger.statements import Asset, Participant, Rotation, Shred, Statement, Unverified
from ledger.statements.envelope import RawEnvelope, verify_raw
from ledger.structure import Bundle, bundle_width, check_leaves, read_file
from ledger.tiles import WIDTH, Tile, decode_bundle
from ledger.views import Views, open_sealed, views_of

MAX_SEALED_LINE = 4 << 20
"""Longest encrypted opening."""


@dataclass(frozen=True)
class Vouched(Unverified):
    """A statement of which every signature was verified, under keys that may be the wrong ones.

    Attributes:
        id: the content id.
        under: texts of the keys that all its signatures verify under.
    """

    id: str = ""
    under: frozenset[str] = frozenset()

    def verify(self, *keys: VerifyKey) -> Statement:
        """Return the statement if exactly these keys signed it.

        Raises:
            SignatureError: they did not.
        """
        if self.under and self.under == {key.text for key in keys}:
            return self.statement
        return super().verify(*keys)


@dataclass(frozen=True)
class Item:
    """One entry and what stands behind it.

    Attributes:
        opened: its statement, None where it is not opened or could not be read.
        finding: why it could not.
    """

    entry: Entry
    leaf: bytes
    opened: Unverified | None = None
    finding: Finding | None = None


@dataclass
class Part:
    """What was read of one entry bundle and its openings.

    Attributes:
        items: the entries up to the first that is malformed.
        complete: whether all of them are there.
    """

    bundle: Bundle
    items: list[Item] = field(default_factory=list)
    complete: bool = False


class Reader:
    """Reads bundles with their openings, and verifies signatures under the keys it was told of.

    Args:
        folder: the export.
        contents: what its manifest lists.
        whole: bundles of which all leaf hashes are wanted.
        views: view keys of this log; they open what is sealed.
    """

    def __init__(
        self, folder: Folder, contents: Contents, whole: set[int], views: Views | None = None
    ) -> None:
        self._views = views
        self._folder = folder
        self._contents = contents
        self._whole = whole
        # By fingerprint, which is the key id in an envelope.
        self._keys: dict[str, VerifyKey] = {}

    def read(self, number: int, keys: Sequence[str]) -> Part:
        """Read one bundle.

        Args:
            number: which.
            keys: texts of verifier keys that statements have named since the last call.
        """
        self._learn(keys)
        part = Part(Bundle(number))
        report, width = part.bundle.report, bundle_width(self._contents.size, number)
        path = Tile(None, number, width).path
        data = read_file(report, self._folder, self._contents.file(path))
        raw: list[bytes] | None = None
        if data is not None:
            try:
                raw = decode_bundle(data, width)
            except EncodingError as error:
                report.find("damaged", path, str(error))
        leaves = None if raw is None else [leaf_hash(item) for item in raw]
        check_leaves(part.bundle, self._folder, self._contents, leaves, whole=number in self._whole)
        openings = self._openings(report, number)
        sealed = self._sealed(report, number)
        if raw is not None and leaves is not None:
            pairs = zip(raw, leaves, strict=True)
            part.items.extend(self._items(report, number, pairs, openings, sealed))
            part.complete = len(part.items) == width
        return part

    def _learn(self, keys: Sequence[str]) -> None:
        for text in keys:
            try:
                key = VerifyKey.from_text(text)
            except InvalidKeyError:
                continue
            self._keys[key.fingerprint] = key

    def _states(self, number: int) -> list[str]:
        start = number * WIDTH
        return self._contents.openness.within(
            start, start + bundle_width(self._contents.size, number)
        )

    def _openings(self, report: Report, number: int) -> dict[int, Opening]:
        """Return the openings of a bundle; report those that are missing or should not be there."""
        first = number * WIDTH
        wanted = {
            index for index, state in enumerate(self._states(number), first) if state == OPENED
        }
        openings: dict[int, Opening] = {}
        if not wanted:
            return openings
        path = openings_path(number)
        data = read_file(report, self._folder, self._contents.file(path))
        if data is None:
            return openings
        try:
            for opening in _lines(data, wanted):
                openings[opening.index] = opening
        except EntryError as error:
            report.find("damaged", path, str(error))
        for index in sorted(wanted - set(openings)):
            report.miss("missing_opening", f"entry {index}", "declared open, not opened")
        return openings

    def _sealed(self, report: Report, number: int) -> dict[int, bytes]:
        """Return the line of each sealed entry; what is in it only its keys show."""
        states = enumerate(self._states(number), number * WIDTH)
        indexes = [index for index, state in states if state == SEALED]
        if not indexes:
            return {}
        path = sealed_path(number)
        data = read_file(report, self._folder, self._contents.file(path))
        if data is None:
            return {}
        *lines, rest = data.split(b"\n")
        fit = all(0 < len(line) <= MAX_SEALED_LINE for line in lines)
        if rest or len(lines) != len(indexes) or not fit:
            message = f"has not one line for each of {len(indexes)} sealed entries"
            report.find("damaged", path, message)
            return {}
        report.checked["sealed_lines"] += len(indexes)
        return dict(zip(indexes, lines, strict=True))

    def _items(
        self,
        report: Report,
        number: int,
        raw: Iterator[tuple[bytes, bytes]],
        openings: dict[int, Opening],
        sealed: dict[int, bytes],
    ) -> Iterator[Item]:
        for index, (data, leaf) in enumerate(raw, number * WIDTH):
            try:
                entry = Entry.from_bytes(data)
            except EntryError as error:
                report.find("malformed_entry", f"entry {index}", str(error))
                return
            # By the entry's own number, as it was said; a wrong one is a finding of the rules.
            opening = openings.get(entry.index)
            if opening is None and self._views is not None and entry.index in sealed:
                opening = self.unseal(report, entry, sealed[entry.index], self._views)
            yield Item(entry, leaf) if opening is None else self._open(entry, leaf, opening, index)

    @staticmethod
    def unseal(report: Report, entry: Entry, line: bytes, views: Views) -> Opening | None:
        """Return what view keys open of a sealed entry; report what is wrong with its line."""
        where = f"entry {entry.index}"
        try:
            opening = open_sealed(line, entry, views)
        except EvidenceError:
            return None
        except ViewError as error:
            report.miss("wrong_view", where, str(error))
        except LedgerError as error:
            # The manifest's signer vouches for the line: it was written so.
            report.find("wrong_opening", where, str(error))
        else:
            report.checked["unsealed"] += 1
            return opening
        return None

    def _open(self, entry: Entry, leaf: bytes, opening: Opening, index: int) -> Item:
        where = f"entry {index}"
        try:
            opened, raw = opening.reveal_raw(entry)
        except EntryError as error:
            return Item(entry, leaf, None, Finding("wrong_opening", where, str(error)))
        except StatementError as error:
            return Item(entry, leaf, None, Finding("malformed_statement", where, str(error)))
        self._learn(keys_of(opened.statement))
        under = self._verified(raw)
        return Item(entry, leaf, Vouched(opened.statement, opened.envelope, opened.id, under))

    def _verified(self, raw: RawEnvelope) -> frozenset[str]:
        """Return the texts of the keys that all signatures verify under; none unless all do."""
        keys = [self._keys.get(key_id) for key_id, _ in raw.signatures]
        known = [key for key in keys if key is not None]
        if len(known) < len(keys):
            return frozenset()
        try:
            verify_raw(raw, *known)
        except SignatureError:
            return frozenset()
        return frozenset(key.text for key in known)


def _lines(data: bytes, wanted: set[int]) -> Iterator[Opening]:
    """Yield the openings of one file, each of another wanted entry.

    Raises:
        EntryError: at the first line that is none.
    """
    *lines, rest = data.split(b"\n")
    if rest:
        raise EntryError("its last line does not end")
    found: set[int] = set()
    for line in lines:
        opening = Opening.from_bytes(line)
        if opening.index not in wanted or opening.index in found:
            raise EntryError(f"opens entry {opening.index}, which it should not")
        found.add(opening.index)
        yield opening


def keys_of(statement: Statement) -> list[str]:
    """Return the texts of the keys that a statement names, which may sign later ones."""
    if isinstance(statement, Participant):
        named = [statement.key, statement.recovery_key]
    elif isinstance(statement, Asset):
        named = [statement.node_key]
    elif isinstance(statement, Rotation):
        named = [statement.new_key, statement.recovery_key]
    else:
        named = []
    return [text for text in named if text is not None]


class Replay:
    """The history that an export tells, put together from its parts in order.

    Args:
        contents: what the manifest lists.
        report: takes the findings of the rules.
        history: takes what is read.
        views: view keys that the auditor holds.

    Attributes:
        unchecked: open entries of which some rule needs a sealed one.
        keys: texts of all keys that were named, for readers.
    """

    def __init__(
        self, contents: Contents, report: Report, history: History, views: Views | None = None
    ) -> None:
        self._views = views
        self.history = history
        self.report = report
        self.unchecked = 0
        self.keys: list[str] = []
        self._contents = contents
        self._ended = False

    def take(self, part: Part) -> None:
        """Take the next part; after one that is not complete the rest cannot be replayed."""
        if self._ended:
            return
        for item in part.items:
            self._admit(item)
            if self.report.full:
                break
        self._ended = self.report.full or not part.complete

    def _admit(self, item: Item) -> None:
        index = self.history.size
        where = f"entry {index}"
        # The entry itself, and those that it rests on.
        proof = (index, *(known for known in item.entry.references if known is not None))
        if item.finding is not None:
            self.report.find(item.finding.code, item.finding.where, item.finding.message, (index,))
        if item.opened is not None:
            self.keys += keys_of(item.opened.statement)
        try:
            rules.admit(self.history, item.entry, item.leaf, item.opened)
        except SealedGroundsError:
            # What the manifest opens was verified; what it rests on was never declared open.
            self.unchecked += 1
        except EvidenceError as error:
            self.report.miss("sealed_evidence", where, str(error), (index,))
        except LedgerError as error:
            self.report.find_error(where, error, proof)

    def finish(self) -> None:
        """Check what can only be seen at the end: that erasures are logged, and views whole."""
        self._check_views()
        history = self.history
        unread = any(
            entry.kind == Shred.kind and entry.index not in history.by_index
            for entry in history.entries
        )
        for span in () if self._ended else self._contents.openness.spans(ERASED):
            for index in range(span.start, span.stop):
                if index in history.shredded:
                    continue
                where, message = f"entry {index}", "was erased, and no shred entry says so"
                if unread:
                    self.report.miss("sealed_evidence", where, f"{message} that is open")
                else:
                    self.report.find("erased_unlogged", where, message, (index,))

    def _check_views(self) -> None:
        """Find sealed entries that a held view should open, and that were not sealed for it."""
        history, views = self.history, self._views
        if views is None or self._ended:
            return
        complained = {item.where for item in (*self.report.findings, *self.report.missing)}
        for span in self._contents.openness.spans(SEALED):
            for index in range(span.start, span.stop):
                named = views_of(history.agreements_under(index), index, history.schedule)
                where = f"entry {index}"
                closed = index not in history.by_index and where not in complained
                if closed and views.cover(named):
                    self.report.miss("wrong_view", where, "is not sealed for a view that covers it")
