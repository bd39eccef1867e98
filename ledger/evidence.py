"""What an auditor holds besides the log, beside its mirror: journals, tag keys, canaries, results.

    held = Held(Path("state"))
    findings = held.take_journal("journals/000", data) + held.contradictions()
    reconcile(history, held.evidence())

Decides how such files are read and which are kept: of each node the longest journal, and one that
does not begin with the journal that came before it is a finding. What they say about the log is
decided in `ledger.reconcile`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger import durable
from ledger.encoding import sha256_text
from ledger.errors import EncodingError, EvidenceFileError, JournalFormatError, StatementError
from ledger.finding import Finding
from ledger.ids import parse_id, short
from ledger.journal import Journal, asset_of, end_of, read_journal
from ledger.reconcile import Evidence
from ledger.record import hex_digest
from ledger.use_index import read_tag_keys

FOLDER = "evidence"
JOURNALS = "journals"
TAG_KEYS, CANARIES, ROSTER = "tag-keys", "canaries", "roster"
PLANTER, RESULTS = "planter", "results"
MAX_FILE = 64 << 20
_MAX_LINE = 1000
_OTHER = ".other"


@dataclass(frozen=True)
class Piece:
    """One file of evidence: its name, length in bytes and digest."""

    name: str
    length: int
    digest: str


class Held:
    """The evidence in a state folder.

    Args:
        folder: the state; `evidence/…` in it is made when something is taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def take_journal(self, name: str, data: bytes) -> list[Finding]:
        """Keep a journal if it goes on from the one that was kept before.

        Args:
            name: of the file it came from, for findings.
            data: its bytes; not verified.

        Returns:
            What is wrong with it. One that contradicts the earlier is kept beside it; see
            `contradictions`.
        """
        try:
            path, known = self._kept(data)
            if known and self._goes_on(data, known):
                if data != known:
                    durable.replace(path, data)
                return []
            journal = read_journal(data)
        except JournalFormatError as error:
            return [Finding("damaged_journal", name, str(error))]
        if not known:
            durable.replace(path, data)
            return []
        # One that was fetched earlier is shorter; any other contradicts what is kept.
        if not _begins(read_journal(known), journal):
            durable.replace(path.with_name(f"{path.name}{_OTHER}"), data)
        return []

    def _kept(self, data: bytes) -> tuple[Path, bytes]:
        """Return where the journal of the same asset is kept, and what is kept there."""
        path = self._folder / JOURNALS / parse_id(asset_of(data))[1]
        return path, path.read_bytes() if path.exists() else b""

    def _goes_on(self, data: bytes, known: bytes) -> bool:
        """Whether the bytes of all lines that are kept come first; the others are read then."""
        place = end_of(known)
        if data[: place.length] != known[: place.length]:
            return False
        read_journal(data, place)
        return True

    def contradictions(self) -> list[Finding]:
        """Return a finding for each node that wrote two journals."""
        return [
            Finding(
                "journal_fork",
                f"journal of {short(f'asset:{path.stem}')}",
                "does not go on from the one that came before it: the node wrote two, and both "
                f"are kept in {path.parent}",
            )
            for path in sorted((self._folder / JOURNALS).glob(f"*{_OTHER}"))
        ]

    def take(self, name: str, data: bytes) -> None:
        """Keep tag keys, canaries, their planter, a roster or results in place of those before.

        Raises:
            LedgerError: not in the form of its kind.
        """
        _READERS[name](data)
        durable.replace(self._folder / name, data)

    def pieces(self) -> Iterator[Piece]:
        """Yield every file that is held, in the order of their names."""
        for path in sorted(self._folder.rglob("*")):
            if path.is_file() and path.suffix not in (".new", _OTHER):
                data = path.read_bytes()
                name = path.relative_to(self._folder).as_posix()
                yield Piece(name, len(data), sha256_text(data))

    def evidence(self) -> Evidence:
        """Return everything held, as `reconcile` takes it; journals are read one at a time."""
        kept = {name: self._read(name) for name in _READERS}
        keys, canaries, roster = kept[TAG_KEYS], kept[CANARIES], kept[ROSTER]
        planter, results = kept[PLANTER], kept[RESULTS]
        return Evidence(
            journals=self._journals(),
            tag_keys=None if keys is None else read_tag_keys(keys),
            canaries=() if canaries is None else read_lines(canaries),
            planter=None if planter is None else read_planter(planter),
            roster=None if roster is None else frozenset(read_lines(roster)),
            results={} if results is None else read_results(results),
        )

    def _journals(self) -> Iterator[tuple[str, bytes]]:
        for path in sorted((self._folder / JOURNALS).glob("*")):
            if path.suffix == "":
                yield f"{JOURNALS}/{path.name[:12]}", path.read_bytes()

    def _read(self, name: str) -> bytes | None:
        path = self._folder / name
        return path.read_bytes() if path.exists() else None


def read_lines(data: bytes) -> tuple[str, ...]:
    """Read canaries (ids or nonces of jobs) or a roster (verifier keys): one a line.

    Raises:
        EvidenceFileError: a line is too long, or no printable text.
    """
    found = []
    for number, line in enumerate(_split(data), start=1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            text = "\n"
        if len(line) > _MAX_LINE or not text.isprintable():
            raise EvidenceFileError(f"line {number} is no line of printable text")
        found.append(text)
    return tuple(text for text in found if text)


def read_planter(data: bytes) -> str:
    """Read the id of the participant in whose name canaries were planted: one line.

    Raises:
        EvidenceFileError: it is none.
    """
    lines = read_lines(data)
    try:
        kinds = [parse_id(line)[0] for line in lines]
    except EncodingError:
        kinds = []
    if kinds != ["participant"]:
        raise EvidenceFileError("the planter is no id of one participant")
    return lines[0]


def read_results(data: bytes) -> dict[str, str]:
    """Read what buyers got: on each line the id of a job and the digest of its result.

    Raises:
        EvidenceFileError: a line is not that, or names a job of an earlier one.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_lines(data), start=1):
        job, _, result = line.partition(" ")
        try:
            hex_digest(result, "result")
            kind = parse_id(job)[0]
        except (EncodingError, StatementError):
            kind = ""
        if kind != "job" or job in found:
            raise EvidenceFileError(f"result {number} is not the id of a job and a sha256: digest")
        found[job] = result
    return found


def _split(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n") if data else []


_READERS: dict[str, Callable[[bytes], object]] = {
    TAG_KEYS: read_tag_keys,
    CANARIES: read_lines,
    PLANTER: read_planter,
    ROSTER: read_lines,
    RESULTS: read_results,
}


def _begins(longer: Journal, shorter: Journal) -> bool:
    count = len(shorter.lines)
    return count <= len(longer.lines) and longer.head_at(count) == shorter.head_at(count)
