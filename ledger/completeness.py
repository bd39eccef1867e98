"""What is missing from a log that was read to its end: closes, use indexes, receipts.

Pure functions over a `History` and its tally. Each finding names the entries that prove it. Nothing
is said of what is not due yet: an epoch's closes and index, and the receipts that a close counts,
have the schedule's grace. A log without a schedule owes nothing.

    for finding in check(history): …

What closes and indexes *say* is decided entry by entry in `ledger.epoch_rules`; a close that jumps
over an epoch is reported there, so here only those that come after the last one are. Whoever has
a node's journal sees line by line what is counted here: see `ledger.journal_check`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ledger.finding import Finding
from ledger.history import History, Logged
from ledger.ids import short
from ledger.receipt_lines import STATES, Closes, ReceiptLines, line_of, other_heads
from ledger.statements import Asset, Epoch, Receipt, Schedule
from ledger.tally import Tally


@dataclass(frozen=True)
class Closed:
    """The epochs of one asset's node.

    Attributes:
        asset: its id.
        first: the epoch in which the asset stands; its node owes a close from there on.
        due: the epoch before which every close must be there (exclusive).
        closed: how many of all epochs from `first` on are closed.
        missing: numbers of the epochs that are due and not closed, in order.
    """

    asset: str
    first: int
    due: int
    closed: int
    missing: tuple[int, ...]


def check(
    history: History, tally: Tally | None = None, *, journals: Collection[str] = ()
) -> list[Finding]:
    """Return everything that is missing.

    Args:
        history: the log, read to its end.
        tally: of this history; made where it is not given.
        journals: assets whose journals are compared with the log line by line elsewhere; their
            receipts are not counted here.
    """
    tally = tally or Tally.of(history)
    return [
        *missing_closes(history, tally),
        *missing_indexes(history),
        *forked_journals(history, tally),
        *receipts_of_closes(history, tally, journals=journals),
    ]


def closed_epochs(history: History, tally: Tally | None = None) -> list[Closed]:
    """Return for each asset which epochs its node closed, in the order of the log."""
    schedule = history.schedule
    if schedule is None:
        return []
    tally = tally or Tally.of(history)
    return [
        _closed(
            history, schedule, logged, logged.read_as(Asset), tally.closes.get(logged.id, Closes())
        )
        for logged in tally.assets()
    ]


def missing_closes(history: History, tally: Tally | None = None) -> list[Finding]:
    """Return a finding for each asset whose node stopped closing its epochs."""
    findings = []
    for item in closed_epochs(history, tally):
        closes = history.closes.get(item.asset, [])
        last = closes[-1].statement if closes else None
        after = last.number + 1 if isinstance(last, Epoch) else item.first
        listed = history.by_id[item.asset].index
        # Each sealed close may be any of them.
        missing = [number for number in item.missing if number >= after]
        missing = missing[len(history.sealed_closes.get(listed, [])) :]
        if missing:
            proof = (listed, *(logged.index for logged in closes[-1:]))
            findings.append(
                Finding(
                    "missing_close",
                    short(item.asset),
                    f"its node has not closed {_epochs(missing)}",
                    proof,
                )
            )
    return findings


def missing_indexes(history: History) -> list[Finding]:
    """Return a finding if the operator stopped indexing the assets used in an epoch."""
    schedule = history.schedule
    if schedule is None:
        return []
    missing = list(range(history.next_use_index, schedule.overdue(history.size)))
    if not missing:
        return []
    proof = tuple(logged.index for logged in history.use_indexes[-1:])
    message = f"no index says which assets were used in {_epochs(missing)}"
    return [Finding("missing_index", "use index", message, proof)]


def forked_journals(history: History, tally: Tally | None = None) -> list[Finding]:
    """Return a finding for each receipt that names the same journal line as an earlier one."""
    tally = tally or Tally.of(history)
    return [
        Finding(
            "journal_fork",
            f"entry {later}",
            f"names line {_line(history, later)} of its node's journal, and so does entry "
            f"{earlier}",
            (later, earlier),
        )
        for asset in history.receipts
        for earlier, later in tally.lines[asset].forks
    ]


def receipts_of_closes(
    history: History, tally: Tally | None = None, *, journals: Collection[str] = ()
) -> list[Finding]:
    """Return a finding for each close whose counts are not those of the receipts in the log.

    Args:
        history: the log.
        tally: of this history.
        journals: assets to leave out.
    """
    tally = tally or Tally.of(history)
    findings: list[Finding] = []
    for asset, closes in history.closes.items():
        listed = history.by_id.get(asset)
        if asset not in journals and listed is not None:
            unlike = [closes[place] for place in tally.closes[asset].unlike]
            lines = tally.lines_of(asset)
            findings.extend(_compare_closes(history, asset, listed.index, unlike, lines))
    return findings


def kept_after_erasure(history: History, opened: Collection[int]) -> list[Finding]:
    """Return a finding for each statement that the log calls erased and an export still opens.

    Args:
        history: the log.
        opened: entries whose statements one export opens.
    """
    return [
        Finding(
            "not_erased",
            f"entry {index}",
            f"was erased by the word of entry {by}, and is opened here",
            (index, by),
        )
        for index, by in history.shredded.items()
        if index in opened and history.by_index[by].id not in history.broken
    ]


def _closed(
    history: History, schedule: Schedule, listed: Logged, asset: Asset, closes: Closes
) -> Closed:
    first = schedule.epoch_of(listed.index)
    ended = min(
        history.revoked.get(listed.id, history.size),
        history.revoked.get(asset.provider, history.size),
    )
    # Of a node whose key ended nothing is owed that could still come when it did.
    due = schedule.overdue(ended)
    missing = tuple(closes.missing(first, due))
    count = sum(len(item) for item in closes.closed)
    return Closed(listed.id, first, max(first, due), count, missing)


def _compare_closes(
    history: History, asset: str, index: int, closes: list[Logged], lines: ReceiptLines
) -> Iterator[Finding]:
    short_of: list[tuple[Logged, str, int, int]] = []
    for logged in closes:
        close = logged.read_as(Epoch)
        places = lines.between(close.journal.first, close.journal.last)
        there = lines.counts(places)
        for state in STATES:
            counted = getattr(close.counts, state)
            if there[state] < counted:
                short_of.append((logged, state, counted, there[state]))
            elif there[state] > counted:
                yield Finding(
                    "uncounted_receipt",
                    f"entry {logged.index}",
                    f"counts {counted} {state} jobs, the log has {there[state]} receipts of them",
                    (logged.index, *lines.in_state(places, state)),
                )
        for item in other_heads(history, close, lines):
            yield Finding(
                "journal_mismatch",
                f"entry {item.index}",
                f"names another head of the journal than the close in entry {logged.index}",
                (item.index, logged.index),
            )
    lacking = sum(counted - found for _, _, counted, found in short_of)
    if short_of and lacking > _unknown_receipts(history, asset, index):
        for logged, state, counted, found in short_of:
            yield Finding(
                "missing_receipt",
                f"entry {logged.index}",
                f"counts {counted} {state} jobs, the log has {found} receipts of them",
                (logged.index,),
            )


def _unknown_receipts(history: History, asset: str, index: int) -> int:
    """Count the receipts that may be any of those that seem to lack: sealed or refused ones."""
    return len(history.sealed_receipts.get(index, [])) + sum(
        isinstance(item.statement, Receipt) and item.statement.asset == asset
        for item in history.refused.values()
    )


def _line(history: History, index: int) -> int:
    return line_of(history.by_index[index].read_as(Receipt))


def _epochs(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"epoch {numbers[0]}"
    return f"{len(numbers)} epochs from {numbers[0]} to {numbers[-1]}"
