"""A linkage in a real market: two registers, and a node that compares what it cannot read."""

from __future__ import annotations

from pathlib import Path

from ledger.statements import Receipt
from tests.integration.test_intersection_job import lists
from tests.searcher import Searcher
from tests.stage import open_stage, terms
from tests.unit.test_tasks_linkage import CLEAN, COUNT, DIRTY, LINK, OTHER, table


def test_registers_are_linked_and_the_comparing_node_counts_no_rows(tmp_path: Path):
    tables = {"clinic": table(CLEAN), "fund": table(DIRTY), "office": OTHER}
    agreed = terms(tasks=("linkage",), uses=9)
    searcher = Searcher()
    for columns in (CLEAN, DIRTY):
        for cells in columns[:2]:
            for cell in cells:
                searcher._binary(cell.encode(), cell)
    with open_stage(tmp_path, tables, preparation={"link": LINK}, agreed=agreed) as play:
        job = play.run("linkage", learns="first")
        assert play.researcher.result(job) == {"links": COUNT, "sizes": [COUNT, COUNT]}
        clinic, fund, office = lists(play, job)
        assert len(clinic.read_text().splitlines()) == COUNT + 1
        assert clinic.read_text().startswith("line,born,given,surname,town\n")
        assert not fund.exists()
        assert not office.exists()
        history = play.market.app.state.context.log.history
        rows = {
            each.statement.asset: each.statement.rows
            for each in history.completed[job]
            if isinstance(each.statement, Receipt)
        }
        assert [rows[seat.asset] for seat in play.seats] == [COUNT, COUNT, 0]
        said = [data for _, _, data in play.crossed] + [data for _, data in play.spoken]
    assert searcher.found(said) == set()
    # The twin: the searcher knows a name when it sees one.
    assert searcher.found([b"sent " + CLEAN[0][0].encode()])
