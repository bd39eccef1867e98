"""A market that lives through short epochs, and the books that its nodes keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from federated.node.home import NodeHome
from ledger.history import History
from ledger.journal import JournalLine, first_head, next_head, read_journal, write_journal
from ledger.reconcile import Evidence, Reconciliation, reconcile
from ledger.statements import Epoch, JournalSpan
from marketplace.catalog import service as catalog
from marketplace.context import Context
from marketplace.epochs import service
from marketplace.epochs.indexer import Indexer
from tests.stage import Play, open_stage, terms

TABLES = {
    name: "chol,age\n" + "".join(f"{200 + row + seed},{40 + row}\n" for row in range(9))
    for seed, name in enumerate(("basel", "bern"))
}

SHORT = {"epoch_entries": 12, "grace_entries": 12}

Lines = Sequence[JournalLine]


@contextmanager
def stage(folder: Path, **settings: Any) -> Iterator[Play]:
    service_settings = SHORT | settings
    with open_stage(folder, TABLES, agreed=terms(uses=9999), service=service_settings) as play:
        yield play


def live(play: Play) -> None:
    """One job, and one that a provider refuses by hand; every node keeps its books."""
    play.run("statistics", columns=["chol"])
    refused = play.job()
    play.nodes[0].reject(refused, "purpose_not_allowed")
    index(play)
    play.market.keep_books()
    index(play)


def context_of(play: Play) -> Context:
    context = play.market.app.state.context
    assert isinstance(context, Context)
    return context


def history_of(play: Play) -> History:
    return context_of(play).log.history


def index(play: Play) -> None:
    """Wait until every ended epoch has its index: by hand, beside the service's own thread."""
    indexer = Indexer(context_of(play))
    while service.is_due(context_of(play)):
        indexer.run_once()


def home_of(play: Play, at: int) -> NodeHome:
    return NodeHome.load(play.market._folders[play.seats[at].asset])


def journal_of(play: Play, at: int) -> bytes:
    return home_of(play, at).signed_journal(play.clock)[0]


def keys_of(play: Play) -> dict[str, bytes]:
    with context_of(play).reading() as session:
        return catalog.tag_keys(session)


def audit(play: Play, change: Callable[[list[JournalLine]], Lines] | None = None) -> Reconciliation:
    """Hold the log against the nodes' journals; the first one may be written anew by its node."""
    journals = [(seat.part.name, journal_of(play, at)) for at, seat in enumerate(play.seats)]
    if change is not None:
        lines = change(list(read_journal(journals[0][1]).lines))
        key, asset = home_of(play, 0).node_key(), play.seats[0].asset
        journals[0] = ("basel", write_journal(asset, chained(lines), key, now=play.clock()))
    return reconcile(history_of(play), Evidence(journals=journals, tag_keys=keys_of(play)))


def chained(lines: Lines) -> list[JournalLine]:
    """The same lines with numbers and heads of their own, as a lying node can write them."""
    head, made = first_head(), []
    for number, line in enumerate(lines, start=1):
        head = next_head(head, number, line.time, line.kind, line.body)
        made.append(JournalLine(number, line.time, line.kind, line.body, head))
    return made


def closes(play: Play, at: int) -> list[Epoch]:
    found = history_of(play).closes.get(play.seats[at].asset, [])
    return [each.statement for each in found if isinstance(each.statement, Epoch)]


def close_of(play: Play, at: int = 0, **changes: Any) -> Epoch:
    """The next close of a node, as it would sign it."""
    history, asset = history_of(play), play.seats[at].asset
    planned = history.schedule
    assert planned is not None
    last = history.last_close(asset)
    listed = history.by_id[asset].index
    number = planned.epoch_of(listed) if last is None else last[1].number + 1
    start, stop = planned.start(number), planned.start(number + 1)
    with play.nodes[at]._journal.write() as book:
        position = book.position()
        first = 1 if last is None else last[1].journal.last + 1
        counts = book.counts_since(first)
    statement = Epoch(
        asset=asset,
        number=number,
        start=start,
        stop=stop,
        previous=None if last is None else last[0].id,
        journal=JournalSpan(first, position.sequence, position.head),
        counts=counts,
        uses=len(history.uses(listed, asset, start, stop)),
        issued=play.clock(),
    )
    return replace(statement, **changes)


def fill(play: Play, epochs: int = 1) -> None:
    """Let epochs end without anybody closing them."""
    size = history_of(play).size + 12 * epochs
    while history_of(play).size < size:
        play.job()
