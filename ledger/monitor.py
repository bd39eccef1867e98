"""Follows a log from outside and remembers what it verified, so that going on costs the new part.

    with Mirror(Path("state")) as mirror:
        monitor = Monitor(mirror, policy)
        report = monitor.look(source)          # one look at the log, up to its newest checkpoint

One look, in fixed order: is the newest checkpoint signed, cosigned and not older than the highest
one verified; do its entries begin with those that were verified (if not: a fork, proven in a file);
then the new entries and openings are copied and committed, before any rule is asked; then each new
entry is put to the rules, and the outcome committed every few thousand. A crash loses at most the
work since the last commit, never the highest checkpoint.

Decides what of a log's past and present contradicts itself or a rule. What is missing at its end is
decided in `ledger.completeness` and `ledger.reconcile`; whom to trust, by the policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ledger import durable
from ledger.checkpoint import Checkpoint
from ledger.errors import (
    EntryError,
    FetchError,
    LedgerError,
    OtherVersionError,
    ProofError,
    StateError,
    TrustError,
)
from ledger.finding import Finding, Report
from ledger.fork import compare
from ledger.history import History
from ledger.manifest import MAX_SIZE, Contents, Openness
from ledger.merkle import CompactRange, Tree, leaf_hash
from ledger.mirror import Mirror
from ledger.mirror_reader import MirrorReader, keys_of_history
from ledger.recall import facts_of, recall
from ledger.replay import Replay
from ledger.source import Source
from ledger.succession import Tenure, changes
from ledger.tally import Tally
from ledger.tile_tree import TileTree
from ledger.tiles import WIDTH, Tile, decode_bundle, tile_bytes
from ledger.trust import Policy, Trusted
from ledger.unsealing import Unsealing
from ledger.views import Views
from ledger.workers import in_order

CHECKPOINT = "checkpoint"
BUNDLES_A_COMMIT = 32
"""Entry bundles that are replayed between two commits."""

RULES = 6
"""Version of what the rules say of the same entries; a state of another is put to them again."""

MAX_KEPT = 1000
"""Most findings that a state remembers."""

PASSING = frozenset({"missing_file", "stale", "unreadable", "untrusted"})
"""Missing now, and not for good: the next look may find it."""


@dataclass(frozen=True)
class Plan:
    """How a monitor looks.

    Attributes:
        processes: how many share the work; what is found is the same for any number.
        max_age: seconds since a quorum of witnesses vouched for a checkpoint, after which it is
            called stale; None to ask for no freshness.
        now: the time, Unix seconds.
        progress: called with the number of entries replayed and of all.
        views: view keys that open what an exported folder encloses, as it is read.
    """

    processes: int = 1
    max_age: int | None = None
    now: Callable[[], float] | None = None
    progress: Callable[[int, int], None] | None = None
    views: Views | None = None


class Monitor:
    """One reader of one log, over its mirror.

    Attributes:
        history: what the verified entries tell.
        tally: what reconciling took from them.
        trusted: the highest checkpoint that was verified; None before the first.
        findings: everything found wrong so far, by any look.
        missing: evidence that entries read so far lack.
        unchecked: open entries of which some rule needs a sealed one.
        checked: how many of each thing were checked, besides what `history` counts.

    Args:
        mirror: the state; the monitor alone writes to it.
        policy: logs, witnesses and their quorum, from elsewhere.
        plan: how.

    Raises:
        StateError: the state is damaged, or of another log.
        LedgerError: its checkpoint is not trusted under this policy.
    """

    def __init__(self, mirror: Mirror, policy: Policy, plan: Plan | None = None) -> None:
        self.mirror = mirror
        self.plan = plan or Plan()
        self.history = History()
        self.tally = Tally(self.history)
        self.trusted: Trusted | None = None
        self.findings: list[Finding] = []
        self.missing: list[Finding] = []
        self.checked: Counter[str] = Counter()
        self.unchecked = 0
        self._policy = policy
        self._unsealing = Unsealing(self.plan.views, mirror.remembered.get("enclosed", ()))
        self._successions: list[bytes] = []
        self._heads: set[int] = set()
        self._signed = b""
        self._range = CompactRange()
        self._stuck = False
        self._remembered_facts: tuple[int, dict[str, Any]] = (-1, {})
        if mirror.remembered:
            self._resume(mirror.remembered)

    @property
    def size(self) -> int:
        """Entries that a verified checkpoint covers."""
        return self._range.size

    @property
    def key_changes(self) -> tuple[Tenure, ...]:
        """The retired keys of the log that led to the one that signed its highest checkpoint."""
        return () if self.trusted is None else changes(self._policy.tenures, self.trusted.key)

    @property
    def signed(self) -> bytes:
        """The highest verified checkpoint as it was signed; empty before the first."""
        return self._signed

    def _resume(self, remembered: dict[str, Any]) -> None:
        try:
            self._successions = [item.encode() for item in remembered["successions"]]
            self._heads = set(remembered.get("heads", ()))
            self._signed = remembered["checkpoint"].encode()
            hashes = tuple(bytes.fromhex(item) for item in remembered["range"])
            self._range = CompactRange(remembered["size"], hashes)
            self.findings = [_finding(item) for item in remembered["findings"]]
            self.missing = [_finding(item) for item in remembered["missing"]]
            self.checked = Counter(remembered["checked"])
            self.unchecked, self._stuck = remembered["unchecked"], remembered["stuck"]
            self._recall(remembered)
        except (KeyError, TypeError, ValueError, AttributeError, ProofError) as error:
            raise StateError(
                f"{self.mirror.folder} was not written by this program; move it away"
            ) from error
        self._policy = self._following(self._successions)
        self.trusted = self._policy.open_checkpoint(self._signed)
        head = self.trusted.checkpoint
        if (head.size, head.root) != (self._range.size, self._range.root()):
            raise StateError(
                f"the checkpoint in {self.mirror.folder} is not that of its entries; move it away"
            )

    def _recall(self, remembered: dict[str, Any]) -> None:
        facts = remembered["facts"]
        try:
            # Nothing is a fact under other rules.
            same = remembered.get("rules") == RULES
            self.history = recall(self.mirror, facts if same else {})
            self._remembered_facts = (self.history.size, facts)
        except OtherVersionError:
            # The entries are here and tied to the checkpoint: only the rules are asked again, and
            # what they said before does not count.
            self.history, self.unchecked, self._stuck = History(), 0, False
            self.findings = [item for item in self.findings if not item.where.startswith("entry ")]
            self.missing = [item for item in self.missing if item.code != "sealed_evidence"]
            self.tally = Tally(self.history)
            self.mirror.restart(self._state())
            return
        try:
            self.tally = Tally.recall(self.history, remembered["tally"])
        except (LookupError, TypeError, ValueError, AttributeError):
            # None yet, or of another version: counted anew, from the statements that are here.
            self.tally = Tally.of(self.history)

    # One look.

    def look(self, source: Source) -> Report:
        """Read on to the newest checkpoint that the source shows.

        Returns:
            What is new: findings, and evidence that is missing now.

        Raises:
            StateError: the state was damaged, or cannot be written.
        """
        report = Report()
        try:
            self._follow(source, report)
        except StateError:
            raise
        except TrustError as error:
            report.miss("untrusted", CHECKPOINT, str(error))
        except FetchError as error:
            report.miss("unreadable", "server", str(error))
        except LedgerError as error:
            report.find("damaged", "log", str(error))
        except FileNotFoundError as error:
            report.miss("missing_file", str(error.filename), "is not there")
        if self._remember(report) and self.trusted is not None:
            self._commit()
        return report

    def _follow(self, source: Source, report: Report) -> None:
        self._learn(source.successions())
        signed = source.checkpoint()
        trusted = self._policy.open_checkpoint(signed)
        newest = trusted.checkpoint
        if self.trusted is not None and newest.origin != self.trusted.checkpoint.origin:
            raise TrustError(f"the checkpoint is of another log, {newest.origin[:80]!r}")
        self.checked["checkpoints"] += 1
        self._check_age(trusted, report)
        self._unsealing.begin(newest.origin, report)
        if newest.size < self.size:
            self._rolled_back(newest, report)
        elif newest.size == self.size and self.trusted is not None:
            if newest.root != self._range.root():
                self._forked(signed, newest, None, report)
                return
            self._keep(signed, trusted)
        elif not self._read_on(source, signed, newest, report):
            return
        else:
            self._keep(signed, trusted)
        self._check_heads(newest.origin, report)
        self._replay(report)
        self._unsealing.check(self.history, report)

    def _learn(self, successions: Sequence[bytes]) -> None:
        fresh = [item for item in successions if item not in self._successions]
        if not fresh:
            return
        policy = self._following(fresh)
        if self._signed:
            # The old key may have signed it after its end: then one of them is a thief's.
            policy.open_checkpoint(self._signed)
        kept = [item for item in fresh if item in policy.followed]
        self._policy = self._following(kept)
        self._successions += kept

    def _following(self, successions: Sequence[bytes]) -> Policy:
        known = self._policy.successions
        fresh = [item for item in successions if item not in known]
        return self._policy.following(fresh) if fresh else self._policy

    def _check_heads(self, origin: str, report: Report) -> None:
        """Hold each tree at which the log changed its key against the entries, once."""
        for size, root in self._policy.heads(origin).items():
            if size > self.size or size in self._heads:
                continue
            if CompactRange().extend(self.mirror.leaves(0, size)).root() != root:
                report.find(
                    "split_view",
                    CHECKPOINT,
                    f"does not begin with the {size} entries at which the log changed its key: it "
                    "has two histories",
                )
            self._heads.add(size)
            self.checked["succession_heads"] += 1

    def _check_age(self, trusted: Trusted, report: Report) -> None:
        if self.plan.max_age is None or self.plan.now is None:
            return
        age = None
        if trusted.witnessed_at is not None:
            age = int(self.plan.now()) - trusted.witnessed_at
        if age is None:
            report.miss("stale", CHECKPOINT, "no quorum of witnesses says when it was the newest")
        elif age > self.plan.max_age:
            report.miss(
                "stale",
                CHECKPOINT,
                f"witnesses vouch for it {age} s ago, {self.plan.max_age} s are allowed",
            )
        else:
            self.checked["fresh_checkpoints"] += 1

    def _rolled_back(self, newest: Checkpoint, report: Report) -> None:
        older = CompactRange().extend(self.mirror.leaves(0, newest.size)).root()
        if older != newest.root:
            report.find(
                "split_view",
                CHECKPOINT,
                f"its {newest.size} entries are not the first of the {self.size} that were "
                "verified before: the log has two histories",
            )
        else:
            report.find(
                "rolled_back",
                CHECKPOINT,
                f"has {newest.size} entries, and {self.size} were verified before: this is an "
                "older state",
            )

    def _forked(
        self, signed: bytes, newest: Checkpoint, tree: TileTree | None, report: Report
    ) -> None:
        """Report that a checkpoint does not extend the verified one, with a proof in a file."""
        message = (
            f"the checkpoint of {newest.size} entries does not extend the {self.size} that were "
            "verified before: the log has two histories"
        )
        try:
            fork = compare((self._signed, self._tree()), (signed, tree))
        except LedgerError as error:
            report.find("split_view", CHECKPOINT, f"{message}. No proof for others: {error}")
            return
        if fork is None:
            # The tiles extend what was verified, and the entries that were served do not.
            report.find("wrong_root", CHECKPOINT, "its root is not that of the entries")
            return
        name = f"fork-{self.size}-{newest.size}-{newest.root.hex()[:8]}"
        path = self.mirror.folder / "forks" / name
        durable.replace(path, fork.to_bytes())
        report.find("split_view", CHECKPOINT, f"{message}. Proof: {path}")

    def _tree(self) -> TileTree:
        """Return the verified tree."""
        tree = Tree.from_leaf_hashes(self.mirror.leaves(0, self.size))
        return TileTree(self.size, lambda tile: tile_bytes(tree, tile, lambda _start, _stop: ()))

    def _keep(self, signed: bytes, trusted: Trusted) -> None:
        """Take a checkpoint as the highest verified one, durably."""
        if signed == self._signed:
            return
        self._signed, self.trusted = signed, trusted
        self._commit()
        # A copy for people and other tools. Crash before: the state counts, the copy follows.
        durable.replace(self.mirror.folder / CHECKPOINT, signed)

    # Copying what is new.

    def _read_on(self, source: Source, signed: bytes, newest: Checkpoint, report: Report) -> bool:
        """Copy new entries and openings; say whether they are those of the checkpoint."""
        if newest.size > MAX_SIZE:
            raise EntryError(f"a log of {newest.size} entries is more than {MAX_SIZE}")
        start = self.size
        grown = self._range
        try:
            for number in range(start // WIDTH, -(-newest.size // WIDTH)):
                grown = self._copy(source, number, newest.size, grown, report)
            if grown.root() == newest.root:
                self._range = grown
                return True
        except BaseException:
            self.mirror.rollback()
            raise
        self.mirror.rollback()
        if start == 0:
            report.find("wrong_root", CHECKPOINT, "its root is not that of the entries")
        else:
            self._forked(signed, newest, TileTree(newest.size, source.tile), report)
        return False

    def _copy(
        self, source: Source, number: int, size: int, grown: CompactRange, report: Report
    ) -> CompactRange:
        width = min(WIDTH, size - number * WIDTH)
        raw = decode_bundle(source.tile(Tile(None, number, width)), width)
        first, stop = grown.size, number * WIDTH + width
        fresh = raw[first - number * WIDTH :]
        openings = source.openings(first, stop)
        for index in sorted(source.declared(first, stop) - set(openings)):
            report.miss("missing_opening", f"entry {index}", "declared open, not opened")
        unsealed = self._unsealing.open(source, first, fresh, report)
        if unsealed:
            self.checked["unsealed"] += len(unsealed)
        openings |= unsealed
        leaves = [leaf_hash(item) for item in fresh]
        for index, (item, leaf) in enumerate(zip(fresh, leaves, strict=True), first):
            self.mirror.append(item, leaf, openings.get(index, b""))
        self.checked["openings"] += len(openings)
        return grown.extend(leaves)

    # Asking the rules.

    def _replay(self, report: Report) -> None:
        keys = keys_of_history(self.history)
        while self.mirror.replayed < self.size and not self._stuck:
            start = self.mirror.replayed
            first = start // WIDTH
            last = min(-(-self.size // WIDTH), first + BUNDLES_A_COMMIT)
            reader = MirrorReader(self.mirror, start, self.size)
            part_report = Report()
            replay = Replay(self._contents(), part_report, self.history)
            replay.keys += keys
            processes = 1 if last - first < 3 else self.plan.processes
            for part in in_order(reader.read, range(first, last), replay.keys, processes=processes):
                part_report.add(part.bundle.report)
                replay.take(part)
                self._stuck = self._stuck or not part.complete
            self._record(start)
            self.tally.go_on()
            keys = replay.keys
            self.unchecked += replay.unchecked
            part_report.findings = [_proven(item) for item in part_report.findings]
            part_report.missing = [_proven(item) for item in part_report.missing]
            report.add(part_report)
            self._remember(part_report)
            self._commit()
            if self.plan.progress is not None:
                self.plan.progress(self.mirror.replayed, self.size)

    def _record(self, start: int) -> None:
        """Stage which of the entries just replayed left a statement behind."""
        for index in range(start, self.history.size):
            logged = self.history.by_index.get(index)
            self.mirror.record(None if logged is None else logged.id)

    # Remembering.

    def _remember(self, report: Report) -> bool:
        """Take over what stays true; say whether there was any."""
        more = False
        for kept, fresh in ((self.findings, report.findings), (self.missing, report.missing)):
            known = set(kept)
            new = [item for item in fresh if item not in known and item.code not in PASSING]
            kept.extend(new[: MAX_KEPT - len(kept)])
            more = more or bool(new)
        return more

    def keep_tally(self) -> None:
        """Remember what reconciling has found right, so that it is not compared again.

        Raises:
            StateError: the state cannot be written.
        """
        if self.trusted is not None and self.tally.facts() != self.mirror.remembered.get("tally"):
            self._commit()

    def _commit(self) -> None:
        self.mirror.commit(self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "checked": dict(self.checked),
            "checkpoint": self._signed.decode(),
            "enclosed": self._unsealing.enclosed[:],
            "facts": self._facts(),
            "heads": sorted(self._heads),
            "findings": [asdict(item) for item in self.findings],
            "missing": [asdict(item) for item in self.missing],
            "range": [item.hex() for item in self._range.hashes],
            "rules": RULES,
            "size": self._range.size,
            "stuck": self._stuck,
            "successions": [item.decode() for item in self._successions],
            "tally": self.tally.facts(),
            "unchecked": self.unchecked,
        }

    def _facts(self) -> dict[str, Any]:
        """Return what the history knows; as it was remembered while nothing was replayed since."""
        if self._remembered_facts[0] != self.history.size:
            self._remembered_facts = (self.history.size, facts_of(self.history))
        return self._remembered_facts[1]

    def _contents(self) -> Contents:
        """Return what a replay is told of an export; a monitor has none."""
        return Contents(2, "", self.size, 0, "", {}, Openness(self.size))


def _proven(item: Finding) -> Finding:
    """Return a finding of an entry with that entry as its proof."""
    word, _, number = item.where.partition(" ")
    if item.entries or word != "entry" or not number.isdecimal():
        return item
    return replace(item, entries=(int(number),))


def _finding(value: dict[str, Any]) -> Finding:
    return Finding(value["code"], value["where"], value["message"], tuple(value["entries"]))
