"""Verifies an exported folder offline: the auditor's verdict.

    verdict = verify(Path("audit-2026"), VerifyKey.from_text("rongshu.example/log+…"))
    verdict.status      # sound | tampered | incomplete | untrusted

Always ends in a verdict, whatever the folder holds: every file is bounded by the signed manifest
before it is read, links are not followed, and each damage becomes a finding that names the file or
the entry. `sound` is said only under a key that came from outside the folder, and only after every
entry that the manifest declares open was checked against every rule.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ledger import rules
from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.encoding import sha256_text
from ledger.entry import Entry, Opening
from ledger.errors import (
    EncodingError,
    EntryError,
    EvidenceError,
    InvalidKeyError,
    LedgerError,
    RuleError,
    SealedGroundsError,
    SignatureError,
    StatementError,
    TrustError,
)
from ledger.history import History
from ledger.keys import VerifyKey
from ledger.manifest import (
    CHECKPOINT,
    CLAIMED_KEY,
    FILE,
    MAX_EXPORT,
    Manifest,
    open_manifest,
    openings_path,
)
from ledger.merkle import Tree, leaf_hash
from ledger.note import MAX_BYTES as MAX_NOTE
from ledger.statements import Participant, Unverified
from ledger.tiles import WIDTH, Tile, decode_bundle, layout, tile_bytes

SOUND, TAMPERED, INCOMPLETE, UNTRUSTED = "sound", "tampered", "incomplete", "untrusted"
EXIT_CODES = {SOUND: 0, TAMPERED: 1, INCOMPLETE: 2, UNTRUSTED: 3}
MAX_FINDINGS = 100
MAX_KEY_FILE = 1024


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: a fixed word, the file or entry, and a sentence."""

    code: str
    where: str
    message: str


@dataclass
class Verdict:
    """What an auditor may conclude from a folder.

    Attributes:
        status: sound, tampered, incomplete (evidence is missing) or untrusted (no key from
            outside the folder vouches for it).
        checked: how many of each thing were checked.
        sealed: entries whose statements stayed closed.
        unchecked: open entries of which some rule could not be checked, because it needs a sealed
            one; their signatures were.
    """

    status: str = UNTRUSTED
    origin: str = ""
    size: int = 0
    root: str = ""
    scope: str = ""
    key_fingerprint: str = ""
    key_given: bool = False
    participants: list[dict[str, Any]] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    sealed: int = 0
    unchecked: int = 0
    findings: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 sound, 1 tampered, 2 incomplete, 3 untrusted."""
        return EXIT_CODES[self.status]


def verify(folder: Path, key: VerifyKey | None) -> Verdict:
    """Check a whole export and say what it is worth.

    Args:
        folder: the exported folder.
        key: the log's key from elsewhere; without one the verdict is never `sound`.
    """
    return read_and_verify(folder, key)[0]


def read_and_verify(folder: Path, key: VerifyKey | None) -> tuple[Verdict, History]:
    """Check a whole export; return what it tells along with the verdict."""
    verdict = Verdict(key_given=key is not None)
    history = History()
    reader = _Reader(folder, verdict)
    try:
        _verify(reader, key, history)
    except TrustError as error:
        _find(verdict.missing, "untrusted", reader.current, str(error))
        verdict.status = UNTRUSTED
        return verdict, history
    except LedgerError as error:
        _find(verdict.findings, "damaged", reader.current, str(error))
    except OSError as error:
        _find(verdict.missing, "unreadable", reader.current, error.strerror or "cannot be read")
    verdict.sealed = history.checked.pop("sealed", 0)
    verdict.checked.update(history.checked)
    verdict.status = _status(verdict)
    return verdict, history


def _status(verdict: Verdict) -> str:
    if verdict.findings and verdict.key_given:
        return TAMPERED
    statements = verdict.size - verdict.sealed
    if statements == 0 and not verdict.missing:
        _find(
            verdict.missing, "nothing_checked", FILE, "no entry is open: nothing could be checked"
        )
    if verdict.missing:
        return INCOMPLETE if verdict.key_given else UNTRUSTED
    return SOUND if verdict.key_given else UNTRUSTED


class _Reader:
    """Reads files of the folder, never more of one than it should hold, never through a link."""

    def __init__(self, folder: Path, verdict: Verdict) -> None:
        self.folder = folder
        self.verdict = verdict
        self.current = str(folder)

    def read(self, path: str, limit: int) -> bytes:
        """Return a file's bytes.

        Raises:
            OSError: it is not there.
            EncodingError: it is no regular file, or longer than `limit`.
        """
        self.current = path
        target = self.folder / path
        for parent in (target, *target.parents):
            if parent == self.folder:
                break
            if parent.is_symlink():
                raise EncodingError(f"{path} is a link; an export has none")
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise EncodingError(f"{path} is no regular file")
            if status.st_size > limit:
                raise EncodingError(f"{path} has {status.st_size} bytes, at most {limit} belong")
            return file.read(limit + 1)[: limit + 1]


def _verify(reader: _Reader, trusted: VerifyKey | None, history: History) -> None:
    verdict = reader.verdict
    key = trusted or _claimed_key(reader)
    verdict.key_fingerprint = key.fingerprint
    manifest = open_manifest(reader.read(FILE, MAX_NOTE), key)
    verdict.origin, verdict.size, verdict.scope = manifest.origin, manifest.size, manifest.scope
    if manifest.origin != key.name:
        raise EncodingError("the manifest is of another log than its key")
    files = _check_files(reader, manifest)
    if CHECKPOINT not in files:
        return
    reader.current = CHECKPOINT
    checkpoint = open_checkpoint(files[CHECKPOINT], key)
    verdict.root = checkpoint.root.hex()
    if checkpoint.size != manifest.size:
        raise EncodingError(f"covers {checkpoint.size} entries, the manifest {manifest.size}")
    if CLAIMED_KEY in files and files[CLAIMED_KEY] != key.text.encode() + b"\n":
        _find(verdict.findings, "damaged", CLAIMED_KEY, "names another key than the one given")
    entries = _check_tree(reader, files, checkpoint)
    if entries is not None:
        _replay(reader, entries, _read_openings(reader, files, manifest), history)
    verdict.participants = list(_participants(history))


def _claimed_key(reader: _Reader) -> VerifyKey:
    text = reader.read(CLAIMED_KEY, MAX_KEY_FILE).decode("utf-8", "replace")
    try:
        return VerifyKey.from_text(text.removesuffix("\n"))
    except InvalidKeyError as error:
        raise EncodingError(f"not a verifier key: {error}") from error


def _check_files(reader: _Reader, manifest: Manifest) -> dict[str, bytes]:
    """Read every listed file whose length and digest are right; report all others."""
    verdict = reader.verdict
    contents = {}
    total = sum(listed.length for listed in manifest.files)
    if total > MAX_EXPORT:
        # Whoever wrote the key that the folder claims wrote these lengths too.
        raise EncodingError(f"lists {total} bytes of files, at most {MAX_EXPORT} are read")
    for listed in manifest.files:
        reader.current = listed.path
        try:
            data = reader.read(listed.path, listed.length)
        except (FileNotFoundError, NotADirectoryError):
            _find(verdict.missing, "missing_file", listed.path, "is listed, and not there")
            continue
        except (EncodingError, OSError) as error:
            _find(verdict.findings, "damaged", listed.path, _sentence(error))
            continue
        if len(data) != listed.length or sha256_text(data) != listed.digest:
            _find(verdict.findings, "damaged", listed.path, "differs from the signed manifest")
            continue
        contents[listed.path] = data
    verdict.checked["files"] = len(contents)
    belongs = {FILE}
    for listed in manifest.files:
        belongs.add(listed.path)
        # A folder that lost its only file is told by that file.
        belongs.update(f"{parent}/" for parent in PurePosixPath(listed.path).parents)
    for path in _walk(reader.folder, ""):
        if path not in belongs:
            _find(verdict.findings, "unlisted_file", path, "is not in the signed manifest")
            if len(verdict.findings) >= MAX_FINDINGS:
                break
    return contents


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    """Yield the path of everything in a folder: files, links, and folders without files."""
    with os.scandir(folder) as found:
        items = sorted(found, key=lambda entry: entry.name)
        if prefix and not items:
            yield prefix
        for item in items:
            # A name that is not UTF-8 is somebody's, and no text: it must still be printable.
            name = os.fsencode(item.name).decode("utf-8", "backslashreplace")
            path = f"{prefix}{name}"
            # Deeper than any path of the layout: whatever lies there is unlisted anyway.
            if item.is_dir(follow_symlinks=False) and path.count("/") < 8:
                yield from _walk(Path(item.path), f"{path}/")
            else:
                yield path


def _check_tree(
    reader: _Reader, files: dict[str, bytes], checkpoint: Checkpoint
) -> list[tuple[Entry, bytes]] | None:
    verdict = reader.verdict
    tiles = list(layout(checkpoint.size))
    raw: list[bytes] = []
    for tile in tiles:
        if tile.level is None:
            if tile.path not in files:
                return None
            reader.current = tile.path
            raw.extend(decode_bundle(files[tile.path], tile.width))
    tree = Tree.from_leaf_hashes(leaf_hash(data) for data in raw)
    reader.current = CHECKPOINT
    if tree.root() != checkpoint.root:
        _find(verdict.findings, "wrong_root", CHECKPOINT, "its root is not that of the entries")
    for tile in tiles:
        if tile.level is not None and tile.path in files:
            _check_tile(verdict, tree, tile, files[tile.path])
    return list(_parse_entries(verdict, raw))


def _check_tile(verdict: Verdict, tree: Tree, tile: Tile, data: bytes) -> None:
    if data != tile_bytes(tree, tile, lambda _start, _stop: ()):
        _find(verdict.findings, "wrong_tile", tile.path, "its hashes are not those of the entries")
    else:
        verdict.checked["tiles"] = verdict.checked.get("tiles", 0) + 1


def _parse_entries(verdict: Verdict, raw: list[bytes]) -> Iterator[tuple[Entry, bytes]]:
    for index, data in enumerate(raw):
        try:
            yield Entry.from_bytes(data), leaf_hash(data)
        except EntryError as error:
            _find(verdict.findings, "malformed_entry", f"entry {index}", str(error))
            return


def _read_openings(
    reader: _Reader, files: dict[str, bytes], manifest: Manifest
) -> dict[int, Opening]:
    verdict = reader.verdict
    wanted = manifest.open_indexes()
    openings: dict[int, Opening] = {}
    for number in sorted({index // WIDTH for index in wanted}):
        path = openings_path(number)
        reader.current = path
        *lines, rest = files.get(path, b"").split(b"\n")
        if rest:
            raise EntryError("its last line does not end")
        for line in lines:
            opening = Opening.from_bytes(line)
            fits = opening.index in wanted and opening.index // WIDTH == number
            if not fits or opening.index in openings:
                raise EntryError(f"opens entry {opening.index}, which it should not")
            openings[opening.index] = opening
    for index in sorted(wanted - set(openings)):
        _find(verdict.missing, "missing_opening", f"entry {index}", "declared open, not opened")
    return openings


def _replay(
    reader: _Reader,
    entries: list[tuple[Entry, bytes]],
    openings: dict[int, Opening],
    history: History,
) -> None:
    verdict = reader.verdict
    for entry, leaf in entries:
        where = reader.current = f"entry {history.size}"
        opened = _revealed(verdict, entry, openings.get(entry.index), where)
        try:
            rules.admit(history, entry, leaf, opened)
        except SealedGroundsError:
            # What the manifest opens was verified; what it rests on was never declared open.
            verdict.unchecked += 1
        except EvidenceError as error:
            _find(verdict.missing, "sealed_evidence", where, str(error))
        except LedgerError as error:
            _find_error(verdict, where, error)
        if len(verdict.findings) >= MAX_FINDINGS:
            break
    verdict.checked["entries"] = history.size


def _revealed(
    verdict: Verdict, entry: Entry, opening: Opening | None, where: str
) -> Unverified | None:
    if opening is None:
        return None
    try:
        return opening.reveal(entry)
    except EntryError as error:
        _find(verdict.findings, "wrong_opening", where, str(error))
    except StatementError as error:
        _find(verdict.findings, "malformed_statement", where, str(error))
    return None


def _find_error(verdict: Verdict, where: str, error: LedgerError) -> None:
    if isinstance(error, RuleError):
        _find(verdict.findings, error.code, where, str(error))
    elif isinstance(error, SignatureError):
        _find(verdict.findings, "bad_signature", where, str(error))
    else:
        _find(verdict.findings, "malformed_statement", where, str(error))


def _participants(history: History) -> Iterator[dict[str, Any]]:
    for logged in history.by_index.values():
        if isinstance(logged.statement, Participant):
            key = VerifyKey.from_text(logged.statement.key)
            yield {
                "name": logged.statement.name,
                "roles": list(logged.statement.roles),
                "id": logged.id,
                "fingerprint": key.fingerprint,
            }


def _find(findings: list[Finding], code: str, where: str, message: str) -> None:
    if len(findings) < MAX_FINDINGS:
        findings.append(Finding(code, where, message))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    return str(error)
