"""Where a monitor reads a log: an exported folder, or the service's public read API.

    source = FolderSource(Path("audit-2026"), policy)
    source = ServerSource(Session("https://market.example", token="…"))
    source.checkpoint(), source.bundle(3, width=256), source.openings(768, 1024)

Decides how much is read and in which form. Nothing that is returned is verified: the monitor ties
entries to the checkpoint, and openings to entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ledger import note
from ledger.entry import Opening
from ledger.errors import EncodingError, EntryError
from ledger.first_manifest import HEADING as FIRST_HEADING
from ledger.first_manifest import read_first_manifest
from ledger.folder import Folder
from ledger.manifest import (
    CHECKPOINT,
    FILE,
    FILES,
    JOURNALS,
    OPENED,
    SEALED,
    SPANS,
    SUCCESSION,
    TAG_KEYS,
    Contents,
    File,
    numbered_path,
    openings_path,
    read_manifest,
    read_tables,
    sealed_path,
)
from ledger.session import Session
from ledger.succession import MAX_LIST, MAX_SUCCESSIONS, SUCCESSIONS_PATH, read_list
from ledger.tile_tree import MAX_BUNDLE, MAX_TILE
from ledger.tiles import WIDTH, Tile
from ledger.trust import Policy

PAGE = 256
"""Entries whose openings are asked for at a time; the service shows no more."""

MAX_LINE = 2 << 20
"""Longest opening, as `Opening.from_bytes` reads it."""

MAX_PAGE = 64 << 20
"""Longest page of openings."""


class Source(Protocol):
    """One place that shows a log. Every method may raise a `LedgerError` or an `OSError`."""

    def close(self) -> None:
        """Give it back."""

    def successions(self) -> Sequence[bytes]:
        """Return the changes of the log's key that come with it."""

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint."""

    def tile(self, tile: Tile) -> bytes:
        """Return a tile or entry bundle."""

    def openings(self, start: int, stop: int) -> dict[int, bytes]:
        """Return the openings of entries `start` to `stop`, exclusive, each as one line."""

    def sealed(self, start: int, stop: int) -> dict[int, bytes]:
        """Return the sealed openings of these entries, each as one line, for holders of views."""

    def declared(self, start: int, stop: int) -> set[int]:
        """Return the entries among these that are said to be open."""

    def attachments(self, name: str) -> dict[str, bytes]:
        """Return the files that come with the log: `journals` or `tag-keys`, by path."""


class ServerSource:
    """The public read API of a service, and openings by the scope of an API key.

    Args:
        session: asks the service; without an API key every statement stays sealed.
        scoped: whether the session has a key.
    """

    def __init__(self, session: Session, *, scoped: bool) -> None:
        self._session = session
        self._scoped = scoped

    def close(self) -> None:
        """Give the connection back; the next question opens another."""
        self._session.close()

    def successions(self) -> Sequence[bytes]:
        """Return those that the service shows.

        Raises:
            FetchError: no answer.
            NoteError: it is no list of them.
        """
        return read_list(self._session.get(SUCCESSIONS_PATH, MAX_LIST))

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint."""
        return self._session.get("/v1/log/checkpoint", note.MAX_BYTES)

    def tile(self, tile: Tile) -> bytes:
        """Return a tile or entry bundle."""
        limit = MAX_BUNDLE if tile.level is None else MAX_TILE
        return self._session.get(f"/v1/log/{tile.path}", limit)

    def openings(self, start: int, stop: int) -> dict[int, bytes]:
        """Return the openings that the key may see, page by page.

        Raises:
            FetchError: no answer.
            EncodingError, EntryError: it holds no openings.
        """
        found: dict[int, bytes] = {}
        for first in range(start, stop, PAGE) if self._scoped else ():
            last = min(stop, first + PAGE)
            data = self._session.get(f"/v1/log/openings?start={first}&end={last}", MAX_PAGE)
            found.update(_page(data, first, last))
        return found

    def sealed(self, start: int, stop: int) -> dict[int, bytes]:
        """Return none: what is sealed for holders of views stands in exports."""
        del start, stop
        return {}

    def declared(self, start: int, stop: int) -> set[int]:
        """Return none: the service does not say what it hides."""
        del start, stop
        return set()

    def attachments(self, name: str) -> dict[str, bytes]:
        """Return none: journals come from the nodes, tag keys from their owners."""
        del name
        return {}


def _page(data: bytes, first: int, last: int) -> dict[int, bytes]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise EncodingError("the server's openings are no JSON") from None
    listed = value.get("openings") if isinstance(value, dict) else None
    if not isinstance(listed, list) or len(listed) > PAGE:
        raise EncodingError("the server's answer is no list of openings")
    found: dict[int, bytes] = {}
    for item in listed:
        opening = Opening.from_json(item)
        if opening.index in found or not first <= opening.index < last:
            raise EntryError(f"the server opens entry {opening.index}, which nobody asked for")
        found[opening.index] = opening.to_bytes()
    return found


class FolderSource:
    """An exported folder, whose manifest the log's key signed.

    Args:
        path: the folder.
        policy: whom to trust for the manifest.

    Raises:
        OSError: it is not there, or lacks a file.
        LedgerError: the manifest is not signed by a log of the policy, or malformed.
    """

    def __init__(self, path: Path, policy: Policy) -> None:
        self._folder = Folder(path)
        try:
            self._successions = list(self._read_successions())
            fresh = [item for item in self._successions if item not in policy.successions]
            self.contents = self._read_contents(policy.following(fresh))
        except BaseException:
            self._folder.close()
            raise

    def close(self) -> None:
        """Give the folder back."""
        self._folder.close()

    def successions(self) -> Sequence[bytes]:
        """Return the successions in the export."""
        return self._successions

    def checkpoint(self) -> bytes:
        """Return the export's checkpoint."""
        return self._listed(CHECKPOINT)

    def tile(self, tile: Tile) -> bytes:
        """Return a tile or entry bundle."""
        return self._listed(tile.path)

    def openings(self, start: int, stop: int) -> dict[int, bytes]:
        """Return the openings in the export.

        Raises:
            OSError: a file is not there.
            EncodingError, EntryError: it is not what the manifest lists, or no openings.
        """
        found: dict[int, bytes] = {}
        for number in range(start // WIDTH, (stop - 1) // WIDTH + 1):
            path = openings_path(number)
            if path not in self.contents.files:
                continue
            *lines, rest = self._listed(path).split(b"\n")
            if rest:
                raise EntryError(f"the last line of {path} does not end")
            for line in lines:
                index = Opening.from_bytes(line).index
                if index in found or index // WIDTH != number:
                    raise EntryError(f"{path} opens entry {index}, which it should not")
                found[index] = line
        return {index: line for index, line in found.items() if start <= index < stop}

    def sealed(self, start: int, stop: int) -> dict[int, bytes]:
        """Return the sealed openings in the export.

        Raises:
            OSError: a file is not there.
            EncodingError: it is not what the manifest lists, or has not one line for each.
        """
        found: dict[int, bytes] = {}
        for number in range(start // WIDTH, (stop - 1) // WIDTH + 1):
            first = number * WIDTH
            last = min(first + WIDTH, self.contents.size)
            states = enumerate(self.contents.openness.within(first, last), first)
            indexes = [index for index, state in states if state == SEALED]
            if not indexes:
                continue
            path = sealed_path(number)
            *lines, rest = self._listed(path).split(b"\n")
            if rest or len(lines) != len(indexes):
                raise EncodingError(f"{path} has not one line for each of its sealed entries")
            found.update(zip(indexes, lines, strict=True))
        return {index: line for index, line in found.items() if start <= index < stop}

    def declared(self, start: int, stop: int) -> set[int]:
        """Return the entries that the manifest says to be open."""
        states = self.contents.openness.within(start, stop)
        return {index for index, state in enumerate(states, start) if state == OPENED}

    def attachments(self, name: str) -> dict[str, bytes]:
        """Return the journals or tag keys in the export."""
        paths = self.contents.numbered(JOURNALS) if name == JOURNALS else [TAG_KEYS]
        return {path: self._listed(path) for path in paths if path in self.contents.files}

    def _listed(self, path: str) -> bytes:
        try:
            return self._folder.read_listed(self.contents.file(path))
        except KeyError:
            raise EncodingError(f"{path} is not in the signed manifest") from None
        except EncodingError as error:
            raise EncodingError(f"{path}: {error}") from error

    def _read_successions(self) -> Iterator[bytes]:
        # One more than a policy follows, so that too many are refused there.
        for number in range(MAX_SUCCESSIONS + 1):
            with suppress(FileNotFoundError, NotADirectoryError):
                yield self._folder.read(numbered_path(SUCCESSION, number), note.MAX_BYTES)

    def _read_contents(self, policy: Policy) -> Contents:
        keys = [tenure.key for tenure in policy.tenures] or list(policy.logs)
        opened = note.open_note(self._folder.read(FILE, note.MAX_BYTES), keys)
        if opened.text.startswith(f"{FIRST_HEADING}\n"):
            contents = read_first_manifest(opened.text).contents()
        else:
            manifest = read_manifest(opened.text)
            files, spans = (
                self._folder.read_listed(File(path, table.length, table.digest))
                for path, table in ((FILES, manifest.files), (SPANS, manifest.spans))
            )
            contents = read_tables(manifest, files, spans)
        if contents.origin not in {key.name for key in opened.verified}:
            raise EncodingError("the manifest is of another log than its key")
        return contents
