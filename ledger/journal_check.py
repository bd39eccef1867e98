"""A node's journal against the log: what was launched, what ended, and what the log has of it.

    account = check_journal(history, data, "journals/003")

Decides whether one exported journal and the log tell the same story: the journal is whole and
signed by its node; every job launched is in the log and granted there, and every job completed was
launched; every end has its receipt there, on the very line that the receipt names; every receipt
has its line; closes count and cover what the lines say.

A journal that was written anew differs from the log at every later place: its first difference is
reported, not all of them. Where statements stayed sealed, their ids are unknown, and as many lines
may be about them.

A journal that was found right is not read again up to its mark (`ledger.journal_mark`), unless
something new touches what lies before that: then all of it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ledger.errors import EvidenceError, LedgerError
from ledger.finding import Finding
from ledger.history import History, Logged
from ledger.ids import short
from ledger.journal import FINISH, Journal, JournalLine, Place, asset_of, read_journal
from ledger.journal_mark import Mark, digest_of, endings, launches
from ledger.receipt_lines import ReceiptLines, matured
from ledger.statements import Epoch, Receipt
from ledger.tally import Tally

GRACE_MILLISECONDS = 3_600_000
"""Where no schedule says it: how long after its line a receipt may come into the log."""


@dataclass
class JournalAccount:
    """What a journal said, and what of it does not fit the log.

    Attributes:
        asset: whose node wrote it; empty where that could not be read.
        lines: how many it has.
        launched: ids of the jobs that it launched.
        starts: how many of them under each agreement in the log.
        ended: ids of the jobs that it ended, with the state of each; those after the mark.
        unmatched: lines about statements that stayed sealed; they could not be compared.
        findings: in the order of the journal.
    """

    asset: str = ""
    lines: int = 0
    launched: set[str] = field(default_factory=set)
    starts: Counter[str] = field(default_factory=Counter)
    ended: dict[str, str] = field(default_factory=dict)
    unmatched: int = 0
    findings: list[Finding] = field(default_factory=list)


def check_journal(
    history: History, data: bytes, name: str, tally: Tally | None = None
) -> JournalAccount:
    """Compare an exported journal with the log.

    Args:
        history: the log, read to its end.
        data: the journal's bytes.
        name: of the file, for messages.
        tally: of this history; made where it is not given.
    """
    tally = tally or Tally.of(history)
    account = JournalAccount()
    try:
        account.asset = asset_of(data)
        listed = history.by_id.get(account.asset)
        mark = tally.marks.pop(account.asset, None)
        if listed is None or mark is None or mark.listed != listed.index or not mark.is_of(data):
            mark = Mark(-1 if listed is None else listed.index)
        journal = read_journal(data, mark.place)
        journal.verify(history.node_key(journal.asset))
    except EvidenceError:
        account.findings.append(
            Finding("unknown_journal", name, "is of an asset that no opened entry lists")
        )
        return account
    except LedgerError as error:
        account.findings.append(Finding("damaged_journal", name, str(error)))
        return account
    account.lines = journal.end.sequence
    check = _Check(history, journal, account, tally, mark)
    if mark.place.sequence and check.touches_the_past():
        # The mark is gone by now: everything is read.
        return check_journal(history, data, name, tally)
    check.read_lines()
    account.findings.extend(check.unlogged_jobs())
    account.findings.extend(check.ungranted_jobs())
    account.findings.extend(check.unlaunched_jobs())
    account.findings.extend(check.missing_receipts())
    account.findings.extend(check.first_difference())
    account.findings.extend(check.wrong_counts())
    account.findings.extend(check.unfinished_jobs())
    tally.marks[account.asset] = mark if account.findings else check.advance(data)
    return account


class _Check:
    """One comparison; `read_lines` first, then the parts in any order."""

    def __init__(
        self,
        history: History,
        journal: Journal,
        account: JournalAccount,
        tally: Tally,
        mark: Mark,
    ) -> None:
        self.history = history
        self.journal = journal
        self.account = account
        self.accounts = tally.accounts
        self.mark = mark
        self.index = mark.listed
        self.place = f"journal of {short(journal.asset)}"
        self.unlogged: set[str] = set()
        # Launches and ends that the log may lack, and launches that may not have ended: those that
        # were open at the mark, and all after it.
        fresh = launches(journal.lines)
        self.launches = mark.unknown | fresh
        self.running = mark.running | fresh
        self.ends = mark.ends | endings(journal.lines)
        # A receipt that names an earlier one's place is told of already.
        self.pairs = tally.lines.get(self.index, ReceiptLines()).forks
        self.forked = {history.by_index[later].id for _, later in self.pairs}
        entries = history.receipts.get(self.index, [])
        pending = [history.by_index[index] for index in mark.pending]
        self.receipts = [
            (logged, logged.read_as(Receipt)) for logged in [*pending, *entries[mark.receipts :]]
        ]
        closes = history.closes.get(journal.asset, [])
        self.closes = [(logged, logged.read_as(Epoch)) for logged in closes[mark.closes :]]
        # The last line of which the log must know by now.
        self.due = max(
            (close.journal.last for logged, close in self.closes if matured(history, logged)),
            default=0,
        )
        self.due = max(self.due, mark.place.sequence)

    def touches_the_past(self) -> bool:
        """Whether something new is about lines before the mark, other than what was open there."""
        mark, past = self.mark, self.mark.place.sequence
        fresh = endings(self.journal.lines)
        waiting = {logged.id for logged, _ in self.receipts}
        return bool(
            self.pairs
            or mark.launched & launches(self.journal.lines).keys()
            or mark.ends.keys() & fresh.keys()
            or any(item in self.history.by_id and item not in waiting for item in fresh)
            or any(close.journal.first <= past for _, close in self.closes)
            or any(self._is_past(logged, receipt) for logged, receipt in self.receipts)
        )

    def _is_past(self, logged: Logged, receipt: Receipt) -> bool:
        """Whether a receipt names a line before the mark, and is not exactly what lacked there."""
        line = self.mark.ends.get(logged.id)
        if line is None:
            return receipt.journal.sequence < self.mark.place.sequence
        position = receipt.journal.sequence, receipt.journal.head
        if position != (line.sequence - 1, self.mark.heads[logged.id]):
            return True
        return self._wrong_line(logged, receipt.journal.sequence) is not None

    def read_lines(self) -> None:
        """Tell how many jobs were launched, and which ended."""
        account, mark = self.account, self.mark
        for line in self.journal.lines:
            if line.kind == FINISH:
                account.ended[str(line.body.get("job"))] = str(line.body.get("state"))
        fresh = launches(self.journal.lines).keys()
        account.launched = mark.launched | fresh
        account.starts = mark.starts + self._starts([*mark.uncounted, *fresh])

    def _starts(self, jobs: Iterable[str]) -> Counter[str]:
        named = (self.accounts.agreement_of(job, self.journal.asset) for job in jobs)
        return Counter(agreement for agreement in named if agreement is not None)

    def advance(self, data: bytes) -> Mark:
        """Return the mark at the end of the newest close that is due; nothing was found so far."""
        old, journal, closes = self.mark, self.journal, self.history.closes
        ended = [close.journal.last for _, close in self.closes]
        count = sum(last <= min(self.due, journal.end.sequence) for last in ended)
        firsts = [close.journal.first for _, close in self.closes]
        follow = all(first == last + 1 for last, first in zip(ended, firsts[1:], strict=False))
        if (
            self.pairs
            or not count
            or not follow
            or len(ended) + old.closes != len(closes[journal.asset])
        ):
            return old
        last = ended[count - 1]
        before = [line for line in journal.lines if line.sequence <= last]
        length = _after(data, old.place.length, len(before))
        mark = Mark(old.listed, Place(last, journal.head_at(last), length), digest_of(data, length))
        fresh, ends = launches(before), old.ends | endings(before)
        mark.launched = old.launched | fresh.keys()
        jobs = [*old.uncounted, *fresh]
        mark.uncounted = {job for job in jobs if not self._starts([job])}
        mark.starts = old.starts + self._starts(jobs)
        mark.unknown = {
            job: line for job, line in (old.unknown | fresh).items() if not self._is_known(job)
        }
        done = {str(line.body.get("job")) for line in before if line.kind == FINISH} | old.refused
        mark.refused = done - mark.launched
        mark.running = {job: line for job, line in (old.running | fresh).items() if job not in done}
        mark.ends = {name: line for name, line in ends.items() if not self._is_known(name)}
        mark.heads = {
            name: old.heads.get(name) or journal.head_at(line.sequence - 1)
            for name, line in mark.ends.items()
        }
        mark.receipts = len(self.history.receipts.get(self.index, []))
        mark.pending = [logged.index for logged, _ in self.receipts if logged.id not in ends]
        mark.closes = old.closes + count
        return mark

    def unlogged_jobs(self) -> list[Finding]:
        """Jobs that were launched, and are not in the log."""
        known = self.history
        unknown = {
            job: line
            for job, line in self.launches.items()
            if self._is_due(line) and not self._is_known(job)
        }
        named = set(known.named.values())
        sealed = [item for item in known.sealed_jobs.get(self.index, []) if item not in named]
        if len(unknown) <= len(sealed):
            self.account.unmatched += len(unknown)
            return []
        self.unlogged = set(unknown)
        return self._report_lines(
            "unlogged_job", "launched a job that is not in the log", unknown, len(sealed)
        )

    def ungranted_jobs(self) -> Iterator[Finding]:
        """Jobs that were launched, and that no grant in the log permits."""
        for job, line in self.launches.items():
            account = self.accounts.jobs.get(job)
            granted = account is None or self.journal.asset in account.granted
            if not granted and self._is_due(line):
                message = f"launched {short(job)}, and no grant in the log permits it"
                yield self._finding("ungranted_job", line, message)

    def unlaunched_jobs(self) -> Iterator[Finding]:
        """Jobs that were completed, and never launched; others may end before they begin."""
        for line in self.journal.lines:
            job = str(line.body.get("job"))
            completed = line.kind == FINISH and line.body.get("state") == "completed"
            if completed and job not in self.account.launched:
                message = f"completed {short(job)}, and never launched it"
                yield self._finding("unlaunched_job", line, message)

    def missing_receipts(self) -> list[Finding]:
        """Ends whose receipts are not in the log."""
        unknown = {
            receipt: line
            for receipt, line in self.ends.items()
            if self._is_due(line)
            and not self._is_known(receipt)
            and line.body.get("job") not in self.unlogged
        }
        named = set(self.history.named.values())
        receipts = self.history.sealed_receipts.get(self.index, [])
        sealed = [item for item in receipts if item not in named]
        if len(unknown) <= len(sealed):
            self.account.unmatched += len(unknown)
            return []
        return self._report_lines(
            "missing_receipt", "ended a job whose receipt is not in the log", unknown, len(sealed)
        )

    def first_difference(self) -> list[Finding]:
        """Where the journal and the receipts and closes in the log part ways first."""
        length = self.journal.end.sequence
        without = []
        for logged, receipt in self.receipts:
            late = receipt.journal.sequence >= length
            if logged.id not in self.ends and logged.id not in self.forked and not late:
                without.append((logged, receipt))
        findings = [
            Finding(
                "missing_line",
                f"entry {logged.index}",
                f"the {self.place} has no line for the end of {short(receipt.job)}",
                self._proof(receipt.job, logged.index),
            )
            for logged, receipt in without
        ]
        broken = self._broken_anchor()
        # A journal that lost lines is another one from the first of them on.
        if broken is not None and not without:
            _, logged, message = broken
            place = f"entry {logged.index}"
            findings.append(Finding("journal_mismatch", place, message, (logged.index,)))
        return findings

    def wrong_counts(self) -> Iterator[Finding]:
        """Closes that count other ends than their lines say, up to the first difference."""
        broken = self._broken_anchor()
        whole = self.journal.end.sequence if broken is None else broken[0] - 1
        for logged, close in self.closes:
            span = close.journal
            if span.last <= whole and self.journal.counts(span.first, span.last) != close.counts:
                yield Finding(
                    "wrong_counts",
                    f"entry {logged.index}",
                    f"counts other jobs than lines {span.first} to {span.last} of the {self.place}",
                    (logged.index,),
                )

    def unfinished_jobs(self) -> Iterator[Finding]:
        """Jobs that were launched and never ended, long after."""
        for job, line in self.running.items():
            due = line.sequence <= self.due
            ended = job in self.account.ended or job in self.mark.refused
            if due and not ended and job not in self.unlogged:
                message = f"launched {short(job)}, and never ended it"
                yield self._finding("unfinished_job", line, message)

    def _broken_anchor(self) -> tuple[int, Logged, str] | None:
        anchors: list[tuple[int, str, Logged]] = [
            (receipt.journal.sequence, receipt.journal.head, logged)
            for logged, receipt in self.receipts
            if logged.id not in self.forked and logged.id not in self.mark.ends
        ]
        anchors += [
            (close.journal.last, close.journal.head, logged) for logged, close in self.closes
        ]
        for sequence, head, logged in sorted(anchors, key=lambda item: item[0]):
            if sequence > self.journal.end.sequence:
                if sequence > self.due:
                    return None  # the journal was fetched before that
                return sequence, logged, f"the {self.place} ends before line {sequence}"
            if self.journal.head_at(sequence) != head:
                return sequence, logged, f"the {self.place} is another one up to line {sequence}"
            problem = self._wrong_line(logged, sequence)
            if problem is not None:
                return sequence, logged, problem
        return None

    def _wrong_line(self, logged: Logged, sequence: int) -> str | None:
        """Compare a receipt with the line of its end, where it has one."""
        receipt, line = logged.statement, self.ends.get(logged.id)
        if not isinstance(receipt, Receipt) or line is None:
            return None
        said = (line.sequence, line.body.get("job"), line.body.get("state"))
        if said != (sequence + 1, receipt.job, receipt.state):
            return f"line {line.sequence} of the {self.place} says something else of it"
        return None

    def _is_known(self, statement_id: str) -> bool:
        history = self.history
        known = (history.by_id, history.refused, history.named)
        return any(statement_id in place for place in known)

    def _is_due(self, line: JournalLine) -> bool:
        if self.history.schedule is not None:
            return line.sequence <= self.due
        last = self.history.entries[-1].time
        return line.time + GRACE_MILLISECONDS <= last

    def _proof(self, job: str, *more: int) -> tuple[int, ...]:
        logged = self.history.by_id.get(job)
        return more if logged is None else (logged.index, *more)

    def _finding(self, code: str, line: JournalLine, message: str) -> Finding:
        place = f"line {line.sequence} of the {self.place}"
        return Finding(code, place, message, self._proof(str(line.body.get("job"))))

    def _report_lines(
        self, code: str, what: str, lines: dict[str, JournalLine], sealed: int
    ) -> list[Finding]:
        if not sealed:
            return [
                self._finding(code, line, f"{what}: {line.body.get('job')}")
                for line in lines.values()
            ]
        numbers = ", ".join(str(line.sequence) for line in list(lines.values())[:8])
        return [
            Finding(
                code,
                self.place,
                f"{what}, in {len(lines) - sealed} of {len(lines)} lines ({numbers}, …); "
                f"the others may be about what stayed sealed",
            )
        ]


def _after(data: bytes, start: int, count: int) -> int:
    """Return where so many lines end that begin at `start`."""
    for _ in range(count):
        start = data.index(b"\n", start) + 1
    return start
