"""Opens, for a monitor, what its view keys open of the sealed statements in an export.

    unsealing = Unsealing(views)
    unsealing.begin("market.example/log", report)
    openings = unsealing.open(source, first, entries, report)     # before the rules are asked
    unsealing.check(history, report)                              # afterwards

Decides which sealed entries a monitor opens, and whether one should have been sealed for a view
that it holds. What is opened is kept by the monitor like what was shown in the clear; what it read
before it held a view stays sealed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.entry import Entry
from ledger.errors import EntryError
from ledger.finding import Report
from ledger.history import History
from ledger.replay import Reader
from ledger.source import Source
from ledger.views import Views, views_of


class Unsealing:
    """The view keys of a monitor at work.

    Attributes:
        enclosed: entries that were copied sealed, and not held against the views yet.

    Args:
        views: view keys of the log; None where the auditor holds none.
        enclosed: those of an interrupted run.
    """

    def __init__(self, views: Views | None, enclosed: Iterable[int] = ()) -> None:
        self.enclosed = list(enclosed)
        self._given = views
        self._views: Views | None = None

    def begin(self, origin: str, report: Report) -> None:
        """Take the views for a look at a log, if they are of it."""
        self._views = self._given
        if self._given is not None and self._given.origin != origin:
            message = f"are of {self._given.origin}, not of {origin}"
            report.miss("wrong_view", "views", message)
            self._views = None

    def open(
        self, source: Source, first: int, entries: Sequence[bytes], report: Report
    ) -> dict[int, bytes]:
        """Return the openings that the views open, each as one line.

        Args:
            source: shows the sealed ones.
            first: index of the first entry.
            entries: their bytes; not verified yet, so an opening is no better than they are.
            report: takes what is wrong with a sealed opening.
        """
        found: dict[int, bytes] = {}
        if self._views is None:
            return found
        for index, line in source.sealed(first, first + len(entries)).items():
            try:
                entry = Entry.from_bytes(entries[index - first])
            except EntryError:
                continue  # a finding of the replay
            opening = Reader.unseal(report, entry, line, self._views)
            if opening is None:
                self.enclosed.append(index)
            else:
                found[index] = opening.to_bytes()
        return found

    def check(self, history: History, report: Report) -> None:
        """Report entries that a held view should open, and that were not sealed for it."""
        views = self._views
        if views is None:
            return
        complained = {item.where for item in (*report.findings, *report.missing)}
        for index in sorted(set(self.enclosed)):
            where = f"entry {index}"
            if where in complained or index in history.by_index or index >= history.size:
                continue
            if views.cover(views_of(history.agreements_under(index), index, history.schedule)):
                message = "is not sealed for a view that covers it"
                report.miss("wrong_view", where, message, (index,))
        self.enclosed = []
