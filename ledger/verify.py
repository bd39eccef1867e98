"""Verifies an exported folder offline: the auditor's verdict.

    verdict = verify(Path("audit-2026"), VerifyKey.from_text("rongshu.example/log+…"))
    verdict.status      # sound | tampered | incomplete | untrusted

Always ends in a verdict, whatever the folder holds: every file is bounded by the signed manifest
before it is read, links are not followed, and each damage becomes a finding that names the file or
the entry. `sound` is said only under a key that came from outside the folder, and only after every
entry that the manifest declares open was checked against every rule.

Memory grows with the statements that are open, about 4 KB each, which the rules need all of; the
structure alone (`structure_only`) takes the same few megabytes for a log of any size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ledger import note
from ledger.errors import (
    EncodingError,
    InvalidKeyError,
    LedgerError,
    TrustError,
    WorkerError,
)
from ledger.finding import MAX_FINDINGS, Finding, Report
from ledger.first_manifest import HEADING as FIRST_HEADING
from ledger.first_manifest import read_first_manifest
from ledger.folder import Folder
from ledger.freshness import Anchor, check_anchors, describe, kept
from ledger.history import History
from ledger.keys import VerifyKey
from ledger.manifest import (
    CHECKPOINT,
    CLAIMED_KEY,
    ERASED,
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
    Span,
    numbered_path,
    read_manifest,
    read_tables,
)
from ledger.note import MAX_BYTES as MAX_NOTE
from ledger.replay import Reader, Replay
from ledger.statements import Participant
from ledger.structure import Bundle, Structure, bundle_count, check_bundle, read_file
from ledger.succession import MAX_SUCCESSIONS, Tenure, changes
from ledger.tiles import WIDTH
from ledger.trust import Policy, Trusted
from ledger.verdict import (
    EXIT_CODES,
    INCOMPLETE,
    SOUND,
    STRUCTURE,
    TAMPERED,
    UNTRUSTED,
    Verdict,
    changes_of_key,
)
from ledger.views import Views
from ledger.workers import PATIENCE, in_order

__all__ = [
    "EXIT_CODES",
    "INCOMPLETE",
    "MAX_FINDINGS",
    "SOUND",
    "STRUCTURE",
    "TAMPERED",
    "UNTRUSTED",
    "Audit",
    "Finding",
    "Plan",
    "Verdict",
    "audit",
    "read_and_verify",
    "verify",
]

MAX_KEY_FILE = 1024
FEW_BUNDLES = 2
"""Most entry bundles that are read without another process: starting one would take longer."""

R = TypeVar("R")
Trust = Policy | VerifyKey | None


@dataclass(frozen=True)
class Plan:
    """How an export is verified.

    Attributes:
        processes: how many share the work; the verdict is the same for any number.
        structure_only: check hashes, tiles, root and chain, and no statement.
        kept: checkpoints or tlog-proofs that the auditor kept: the export must contain them.
        views: view keys that open what is sealed.
        patience: longest wait for one answer of another process, seconds.
        progress: called with the number of entries read and of all.
        most_findings: after so many the replay stops, because nobody would read more.
    """

    processes: int = 1
    structure_only: bool = False
    kept: Sequence[bytes] = ()
    views: Views | None = None
    patience: float = PATIENCE
    progress: Callable[[int, int], None] | None = None
    most_findings: int = MAX_FINDINGS


DEFAULT = Plan()


@dataclass
class Audit:
    """A verdict, and what it was made from.

    Attributes:
        history: what the export tells, up to the first entry that cannot be read.
        contents: what its manifest lists; None where that could not be read.
        trusted: its checkpoint; None where nobody trusted vouches for it.
        key_changes: the retired keys that led to the one that signed it.
    """

    verdict: Verdict
    history: History = field(default_factory=History)
    contents: Contents | None = None
    trusted: Trusted | None = None
    key_changes: tuple[Tenure, ...] = ()


def verify(folder: Path, trust: Trust, plan: Plan = DEFAULT) -> Verdict:
    """Check a whole export and say what it is worth.

    Args:
        folder: the exported folder.
        trust: the log's key, or a policy of logs and witnesses, from elsewhere; without either
            the verdict is never `sound`.
        plan: how.
    """
    return audit(folder, trust, plan).verdict


def read_and_verify(folder: Path, trust: Trust, plan: Plan = DEFAULT) -> tuple[Verdict, History]:
    """Check a whole export; return what it tells along with the verdict."""
    done = audit(folder, trust, plan)
    return done.verdict, done.history


def audit(folder: Path, trust: Trust, plan: Plan = DEFAULT) -> Audit:
    """Check a whole export; return the verdict with all that it was made from."""
    policy = Policy.of(trust) if isinstance(trust, VerifyKey) else trust
    done = Audit(Verdict(key_given=policy is not None))
    run = _Run(folder, policy, plan, done)
    try:
        run.check()
    except TrustError as error:
        run.report.miss("untrusted", run.current, str(error))
        done.verdict.missing = run.report.missing
        done.verdict.status = UNTRUSTED
        return done
    except WorkerError as error:
        run.report.miss("check_failed", _bundle_place(error.task), str(error))
    except LedgerError as error:
        run.report.find("damaged", run.current, str(error))
    except OSError as error:
        run.report.miss("unreadable", run.current, error.strerror or "cannot be read")
    _conclude(done, run.report, plan)
    return done


def _conclude(done: Audit, report: Report, plan: Plan) -> None:
    verdict, contents = done.verdict, done.contents
    if not plan.structure_only and contents is not None:
        report.checked["entries"] = done.history.size
    verdict.checked = dict(report.checked) | dict(done.history.checked)
    verdict.sealed = verdict.checked.pop("sealed", 0)
    verdict.key_changes = changes_of_key(done.key_changes, done.history.entries)
    if contents is not None:
        verdict.enclosed = contents.openness.count(SEALED)
        verdict.erased = contents.openness.count(ERASED)
        verdict.erased_kinds = _kinds(done.history, contents.openness.spans(ERASED))
        if plan.structure_only:
            verdict.sealed = contents.size - contents.openness.count(OPENED)
    verdict.participants = list(participants_of(done.history))
    verdict.freshness = describe(verdict)
    nothing = verdict.size == 0 if plan.structure_only else verdict.size == verdict.sealed
    if nothing and not report.missing and not (report.findings and verdict.key_given):
        report.miss("nothing_checked", FILE, "no entry is open: nothing could be checked")
    verdict.findings, verdict.missing = report.findings, report.missing
    verdict.status = _status(verdict, plan)


def _kinds(history: History, spans: Iterable[Span]) -> dict[str, int]:
    """Count entries by kind, as far as the log was read."""
    indexes = (index for span in spans for index in range(span.start, span.stop))
    kinds = Counter(history.entries[index].kind for index in indexes if index < history.size)
    return dict(sorted(kinds.items()))


def _status(verdict: Verdict, plan: Plan) -> str:
    if not verdict.key_given:
        return UNTRUSTED
    if verdict.findings:
        return TAMPERED
    if verdict.missing:
        return INCOMPLETE
    return STRUCTURE if plan.structure_only else SOUND


class _Run:
    """One verification: what is being read, and what was found so far."""

    def __init__(self, path: Path, policy: Policy | None, plan: Plan, done: Audit) -> None:
        self.path = path
        self.policy = policy
        self.plan = plan
        self.done = done
        self.verdict = done.verdict
        self.report = Report(limit=plan.most_findings)
        self.current = str(path)

    def check(self) -> None:
        """Check the folder; what raises is reported at the place in `current`."""
        self.current = FILE
        with Folder(self.path) as folder:
            policy = self._followed(folder, self.policy or Policy.of(self._claimed_key(folder)))
            contents, signers = self._manifest(folder, policy)
            if contents is None:
                return
            self.done.contents = contents
            tables = (FILES, SPANS) if contents.version > 1 else ()
            for path in folder.unlisted({FILE, *tables, *contents.files}, MAX_FINDINGS):
                self.report.find("unlisted_file", path, "is not in the signed manifest")
            trusted = self._checkpoint(folder, contents, policy, signers)
            if trusted is None:
                return
            self._small_files(folder, contents, trusted.key)
            anchors = self._anchors(policy)
            sizes = [item.checkpoint.size for item in anchors]
            structure = Structure(contents, self.report, sizes)
            if self.plan.structure_only:
                self._check_structure(folder, contents, structure)
            else:
                self._replay(folder, contents, structure)
            self.current = CHECKPOINT
            structure.finish(folder, trusted.checkpoint.root)
            check_anchors(self.report, anchors, trusted.checkpoint, structure.root)

    def _claimed_key(self, folder: Folder) -> VerifyKey:
        self.current = CLAIMED_KEY
        text = folder.read(CLAIMED_KEY, MAX_KEY_FILE).decode("utf-8", "replace")
        try:
            return VerifyKey.from_text(text.removesuffix("\n"))
        except InvalidKeyError as error:
            raise EncodingError(f"not a verifier key: {error}") from error

    def _followed(self, folder: Folder, policy: Policy) -> Policy:
        """Return the policy with the successions that the export carries.

        They are read before the manifest that lists them, because they may say who signs it; each
        is a note signed by keys that are trusted already.
        """
        notes: list[bytes] = []
        for number in range(MAX_SUCCESSIONS):
            path = numbered_path(SUCCESSION, number)
            try:
                notes.append(folder.read(path, MAX_NOTE))
            except (FileNotFoundError, NotADirectoryError):
                break
            self.current = path
        # Beside those that the auditor was given from elsewhere: a rival of one is refused.
        return policy.following(notes) if notes else policy

    def _manifest(
        self, folder: Folder, policy: Policy
    ) -> tuple[Contents | None, tuple[VerifyKey, ...]]:
        """Return what the export contains, and who signed that."""
        self.current = FILE
        opened = note.open_note(folder.read(FILE, MAX_NOTE), _keys(policy))
        self.verdict.key_fingerprint = opened.verified[0].fingerprint
        if opened.text.startswith(f"{FIRST_HEADING}\n"):
            first = read_first_manifest(opened.text)
            self._claim(first.origin, first.size, first.created, first.scope, 1)
            contents: Contents | None = first.contents()
        else:
            manifest = read_manifest(opened.text)
            self._claim(manifest.origin, manifest.size, manifest.created, manifest.scope, 2)
            tables = []
            for path, table in ((FILES, manifest.files), (SPANS, manifest.spans)):
                listed = File(path, table.length, table.digest)
                tables.append(read_file(self.report, folder, listed))
            contents = None
            if tables[0] is not None and tables[1] is not None:
                self.current = FILES
                contents = read_tables(manifest, tables[0], tables[1])
        self.current = FILE
        if self.verdict.origin not in {key.name for key in opened.verified}:
            raise EncodingError("the manifest is of another log than its key")
        return contents, opened.verified

    def _claim(self, origin: str, size: int, created: int, scope: str, version: int) -> None:
        verdict = self.verdict
        verdict.origin, verdict.size, verdict.created = origin, size, created
        verdict.scope, verdict.version = scope, version

    def _checkpoint(
        self, folder: Folder, contents: Contents, policy: Policy, signers: Sequence[VerifyKey]
    ) -> Trusted | None:
        self.current = CHECKPOINT
        data = read_file(self.report, folder, contents.file(CHECKPOINT))
        if data is None:
            return None
        trusted = policy.open_checkpoint(data)
        checkpoint, verdict = trusted.checkpoint, self.verdict
        verdict.root = checkpoint.root.hex()
        if checkpoint.size != contents.size:
            raise EncodingError(f"covers {checkpoint.size} entries, the manifest {contents.size}")
        if trusted.key not in signers:
            raise EncodingError("is signed by another key than the manifest")
        verdict.key_fingerprint = trusted.key.fingerprint
        verdict.witnesses = [{"name": name, "time": time} for name, time in trusted.witnesses]
        verdict.witnessed_at = trusted.witnessed_at
        self.done.trusted = trusted
        self.done.key_changes = changes(policy.tenures, trusted.key)
        return trusted

    def _small_files(self, folder: Folder, contents: Contents, key: VerifyKey) -> None:
        """Check the files that no entry bundle brings with it."""
        claimed = read_file(self.report, folder, contents.file(CLAIMED_KEY))
        if claimed is not None and claimed != key.text.encode() + b"\n":
            self.report.find("damaged", CLAIMED_KEY, "names another key than the one that signed")
        paths = contents.numbered(SUCCESSION)
        if not self.plan.structure_only:
            paths += contents.numbered(JOURNALS)
            paths += [TAG_KEYS] if TAG_KEYS in contents.files else []
        for path in paths:
            read_file(self.report, folder, contents.file(path))

    def _anchors(self, policy: Policy) -> list[Anchor]:
        """Return the trees that the export must contain."""
        anchors = kept(self.plan.kept, _keys(policy), self.report)
        size = self.verdict.size
        self.verdict.retained = [i.checkpoint.size for i in anchors if i.checkpoint.size <= size]
        heads = [tenure.last for tenure in policy.tenures if tenure.last is not None]
        anchors += [Anchor(head, kept=False) for head in heads]
        return anchors

    def _check_structure(self, folder: Folder, contents: Contents, structure: Structure) -> None:
        def work(number: int, _news: Sequence[object]) -> Bundle:
            whole = number in structure.whole
            return check_bundle(folder, contents, number, whole=whole)

        for bundle in self._in_order(work, contents.size, ()):
            structure.take(bundle)
            self._progress(bundle, contents)

    def _replay(self, folder: Folder, contents: Contents, structure: Structure) -> None:
        views = self._views()
        reader = Reader(folder, contents, structure.whole, views)
        replay = Replay(contents, self.report, self.done.history, views)
        for part in self._in_order(reader.read, contents.size, replay.keys):
            structure.take(part.bundle)
            replay.take(part)
            self._progress(part.bundle, contents)
        self.verdict.unchecked = replay.unchecked
        replay.finish()

    def _views(self) -> Views | None:
        views, origin = self.plan.views, self.verdict.origin
        if views is not None and views.origin != origin:
            self.report.miss("wrong_view", "views", f"are of {views.origin}, not of {origin}")
            return None
        return views

    def _in_order(
        self, work: Callable[[int, Sequence[Any]], R], size: int, news: Sequence[str]
    ) -> Iterator[R]:
        plan, count = self.plan, bundle_count(size)
        # One bundle or two are read before a second process has started.
        processes = 1 if count <= FEW_BUNDLES else plan.processes
        return in_order(work, range(count), news, processes=processes, patience=plan.patience)

    def _progress(self, bundle: Bundle, contents: Contents) -> None:
        self.current = _bundle_place(bundle.number)
        if self.plan.progress is not None:
            done = min(contents.size, (bundle.number + 1) * WIDTH)
            self.plan.progress(done, contents.size)


def _keys(policy: Policy) -> list[VerifyKey]:
    return [tenure.key for tenure in policy.tenures]


def _bundle_place(number: int) -> str:
    return f"entries {number * WIDTH} to {(number + 1) * WIDTH - 1}"


def participants_of(history: History) -> Iterator[dict[str, Any]]:
    """Yield name, roles, id and key fingerprint of everybody who enrolled."""
    for logged in history.by_index.values():
        # Asked first: a recalled history reads a statement when somebody looks at it.
        enrolled = logged.id.startswith("participant:")
        if enrolled and isinstance(logged.statement, Participant):
            key = VerifyKey.from_text(logged.statement.key)
            yield {
                "name": logged.statement.name,
                "roles": list(logged.statement.roles),
                "id": logged.id,
                "fingerprint": key.fingerprint,
            }
