"""What is missing from a log that was read to its end: closes, use indexes, receipts.

Pure functions over a `History`. Each finding names the entries that prove it. Nothing is said of
what is not due yet: an epoch's closes and index, and the receipts that a close counts, have the
schedule's grace. A log without a schedule owes nothing.

    for finding in check(history): …

What closes and indexes *say* is decided entry by entry in `ledger.epoch_rules`; a close that jumps
over an epoch is reported there, so here only those that come after the last one are. Whoever has
a node's journal sees line by line what is counted here: see `ledger.journal_check`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from ledger.finding import Finding
from ledger.history import History, Logged
from ledger.ids import short
from ledger.statements import Asset, Epoch, Receipt, Schedule

STATES = ("completed", "failed", "refused")


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


def check(history: History, *, journals: Collection[str] = ()) -> list[Finding]:
    """Return everything that is missing.

    Args:
        history: the log, read to its end.
        journals: assets whose journals are compared with the log line by line elsewhere; their
            receipts are not counted here.
    """
    return [
        *missing_closes(history),
        *missing_indexes(history),
        *forked_journals(history),
        *receipts_of_closes(history, journals=journals),
    ]


def closed_epochs(history: History) -> list[Closed]:
    """Return for each asset which epochs its node closed, in the order of the log."""
    schedule = history.schedule
    if schedule is None:
        return []
    return [
        _closed(history, schedule, logged, logged.statement)
        for logged in history.by_index.values()
        if isinstance(logged.statement, Asset)
    ]


def missing_closes(history: History) -> list[Finding]:
    """Return a finding for each asset whose node stopped closing its epochs."""
    findings = []
    for item in closed_epochs(history):
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


def forked_journals(history: History) -> list[Finding]:
    """Return a finding for each receipt that names the same journal line as an earlier one."""
    return [
        Finding(
            "journal_fork",
            f"entry {later.index}",
            f"names line {_line(later)} of its node's journal, and so does entry {earlier.index}",
            (later.index, earlier.index),
        )
        for receipts in history.receipts.values()
        for earlier, later in forks(receipts)
    ]


def forks(receipts: Iterable[Logged]) -> list[tuple[Logged, Logged]]:
    """Return pairs of one node's receipts that name one line of its journal."""
    found = []
    lines: dict[int, Logged] = {}
    for logged in receipts:
        earlier = lines.setdefault(_line(logged), logged)
        if earlier is not logged:
            found.append((earlier, logged))
    return found


def receipts_of_closes(history: History, *, journals: Collection[str] = ()) -> list[Finding]:
    """Return a finding for each close whose counts are not those of the receipts in the log.

    Args:
        history: the log.
        journals: assets to leave out.
    """
    findings: list[Finding] = []
    for asset, closes in history.closes.items():
        listed = history.by_id.get(asset)
        if asset not in journals and listed is not None:
            receipts = sorted(history.receipts.get(listed.index, []), key=_line)
            findings.extend(_compare_closes(history, asset, listed.index, closes, receipts))
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


def matured(history: History, logged: Logged) -> bool:
    """Whether what an entry counts must be in the log by now."""
    schedule = history.schedule
    return schedule is not None and logged.index + schedule.grace_entries <= history.size


def _closed(history: History, schedule: Schedule, listed: Logged, asset: Asset) -> Closed:
    first = schedule.epoch_of(listed.index)
    ended = min(
        history.revoked.get(listed.id, history.size),
        history.revoked.get(asset.provider, history.size),
    )
    # Of a node whose key ended nothing is owed that could still come when it did.
    due = schedule.overdue(ended)
    numbers = {
        logged.statement.number
        for logged in history.closes.get(listed.id, [])
        if isinstance(logged.statement, Epoch)
    }
    missing = tuple(number for number in range(first, due) if number not in numbers)
    return Closed(listed.id, first, max(first, due), len(numbers), missing)


def _compare_closes(
    history: History, asset: str, index: int, closes: list[Logged], receipts: list[Logged]
) -> Iterator[Finding]:
    # A sealed receipt may be any of those that seem to lack; so may one that was refused.
    unknown = len(history.sealed_receipts.get(index, [])) + sum(
        isinstance(item.statement, Receipt) and item.statement.asset == asset
        for item in history.refused.values()
    )
    lines = [_line(logged) for logged in receipts]
    short_of: list[tuple[Logged, str, int, int]] = []
    for logged in closes:
        close = logged.statement
        if not isinstance(close, Epoch) or not matured(history, logged):
            continue
        low = bisect_left(lines, close.journal.first)
        high = bisect_left(lines, close.journal.last + 1)
        there = Counter(_state(item) for item in receipts[low:high])
        for state in STATES:
            counted = getattr(close.counts, state)
            if there[state] < counted:
                short_of.append((logged, state, counted, there[state]))
            elif there[state] > counted:
                yield Finding(
                    "uncounted_receipt",
                    f"entry {logged.index}",
                    f"counts {counted} {state} jobs, the log has {there[state]} receipts of them",
                    (logged.index, *(r.index for r in receipts[low:high] if _state(r) == state)),
                )
        # The receipt that was signed next names the very place where the close ended.
        yield from _compare_heads(logged, close, receipts[high:])
    if sum(counted - found for _, _, counted, found in short_of) > unknown:
        for logged, state, counted, found in short_of:
            yield Finding(
                "missing_receipt",
                f"entry {logged.index}",
                f"counts {counted} {state} jobs, the log has {found} receipts of them",
                (logged.index,),
            )


def _compare_heads(logged: Logged, close: Epoch, receipts: list[Logged]) -> Iterator[Finding]:
    for item in receipts:
        receipt = item.statement
        if not isinstance(receipt, Receipt) or receipt.journal.sequence != close.journal.last:
            return
        if receipt.journal.head != close.journal.head:
            yield Finding(
                "journal_mismatch",
                f"entry {item.index}",
                f"names another head of the journal than the close in entry {logged.index}",
                (item.index, logged.index),
            )


def _line(logged: Logged) -> int:
    """Return the line of a receipt's end in its node's journal."""
    statement = logged.statement
    return statement.journal.sequence + 1 if isinstance(statement, Receipt) else 0


def _state(logged: Logged) -> str:
    return logged.statement.state if isinstance(logged.statement, Receipt) else ""


def _epochs(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"epoch {numbers[0]}"
    return f"{len(numbers)} epochs from {numbers[0]} to {numbers[-1]}"
