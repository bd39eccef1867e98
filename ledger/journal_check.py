"""A node's journal against the log: what was launched, what ended, and what the log has of it.

    account = check_journal(history, data, "journals/003")

Decides whether one exported journal and the log tell the same story: the journal is whole and
signed by its node; every job launched is in the log; every end has its receipt there, on the very
line that the receipt names; every receipt has its line; closes count and cover what the lines say.

A journal that was written anew differs from the log at every later place: its first difference is
reported, not all of them. Where statements stayed sealed, their ids are unknown, and as many lines
may be about them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ledger.errors import EvidenceError, LedgerError
from ledger.finding import Finding
from ledger.history import History, Logged
from ledger.ids import short
from ledger.journal import FINISH, LAUNCH, Journal, JournalLine, read_journal
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
        ended: ids of the jobs that it ended, with the state of each.
        unmatched: lines about statements that stayed sealed; they could not be compared.
        findings: in the order of the journal.
    """

    asset: str = ""
    lines: int = 0
    launched: set[str] = field(default_factory=set)
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
    account = JournalAccount()
    try:
        journal = read_journal(data)
        account.asset = journal.asset
        journal.verify(history.node_key(journal.asset))
    except EvidenceError:
        account.findings.append(
            Finding("unknown_journal", name, "is of an asset that no opened entry lists")
        )
        return account
    except LedgerError as error:
        account.findings.append(Finding("damaged_journal", name, str(error)))
        return account
    account.lines = len(journal.lines)
    check = _Check(history, journal, account, tally or Tally.of(history))
    check.read_lines()
    account.findings.extend(check.unlogged_jobs())
    account.findings.extend(check.missing_receipts())
    account.findings.extend(check.first_difference())
    account.findings.extend(check.wrong_counts())
    account.findings.extend(check.unfinished_jobs())
    return account


class _Check:
    """One comparison; `read_lines` first, then the parts in any order."""

    def __init__(
        self, history: History, journal: Journal, account: JournalAccount, tally: Tally
    ) -> None:
        self.history = history
        self.journal = journal
        self.account = account
        self.index = history.by_id[journal.asset].index
        self.place = f"journal of {short(journal.asset)}"
        self.launches: dict[str, JournalLine] = {}
        self.ends: dict[str, JournalLine] = {}
        self.unlogged: set[str] = set()
        # A receipt that names an earlier one's place is told of already.
        pairs = tally.lines.get(self.index, ReceiptLines()).forks
        self.forked = {history.by_index[later].id for _, later in pairs}
        closes = history.closes.get(journal.asset, [])
        self.closes = [
            (logged, logged.statement) for logged in closes if isinstance(logged.statement, Epoch)
        ]
        # The last line of which the log must know by now.
        self.due = max(
            (close.journal.last for logged, close in self.closes if matured(history, logged)),
            default=0,
        )

    def read_lines(self) -> None:
        for line in self.journal.lines:
            job = str(line.body.get("job"))
            if line.kind == LAUNCH:
                self.launches.setdefault(job, line)
            elif line.kind == FINISH:
                self.ends[str(line.body.get("receipt"))] = line
                self.account.ended[job] = str(line.body.get("state"))
        self.account.launched = set(self.launches)

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
        length = len(self.journal.lines)
        without = []
        for logged, receipt in self._receipts():
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
        whole = len(self.journal.lines) if broken is None else broken[0] - 1
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
        for job, line in self.launches.items():
            due = line.sequence <= self.due
            if due and job not in self.account.ended and job not in self.unlogged:
                yield Finding(
                    "unfinished_job",
                    f"line {line.sequence} of the {self.place}",
                    f"launched {short(job)}, and never ended it",
                    self._proof(job),
                )

    def _broken_anchor(self) -> tuple[int, Logged, str] | None:
        anchors: list[tuple[int, str, Logged]] = [
            (receipt.journal.sequence, receipt.journal.head, logged)
            for logged, receipt in self._receipts()
            if logged.id not in self.forked
        ]
        anchors += [
            (close.journal.last, close.journal.head, logged) for logged, close in self.closes
        ]
        for sequence, head, logged in sorted(anchors, key=lambda item: item[0]):
            if sequence > len(self.journal.lines):
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

    def _receipts(self) -> list[tuple[Logged, Receipt]]:
        found = self.history.receipts.get(self.index, [])
        return [(item, item.statement) for item in found if isinstance(item.statement, Receipt)]

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

    def _report_lines(
        self, code: str, what: str, lines: dict[str, JournalLine], sealed: int
    ) -> list[Finding]:
        if not sealed:
            return [
                Finding(
                    code,
                    f"line {line.sequence} of the {self.place}",
                    f"{what}: {line.body.get('job')}",
                    self._proof(str(line.body.get("job"))),
                )
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
