"""A market with nodes over several epochs: closes, indexes, journals and tag keys fit together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federated.errors import JournalCutError
from federated.messages import Failure
from federated.node.home import NodeHome
from federated.node.service import HttpService
from ledger.export import Extras, export
from ledger.history import History
from ledger.journal import (
    CLOSE,
    FINISH,
    LAUNCH,
    JournalLine,
    first_head,
    next_head,
    read_journal,
    write_journal,
)
from ledger.keys import SigningKey
from ledger.reconcile import Evidence, Reconciliation, reconcile
from ledger.statements import Counts, Epoch, JournalSpan, TaggedAsset
from ledger.use_index import read_tag_keys
from ledger.verify import verify
from marketplace import tag_keys
from marketplace.catalog import service as catalog
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.ledger import command
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


@pytest.fixture(name="play")
def _play(tmp_path: Path) -> Iterator[Play]:
    with stage(tmp_path) as play:
        yield play


@pytest.fixture(scope="module", name="lived")
def _lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A market that several jobs and epochs went through; nobody changes it."""
    with stage(tmp_path_factory.mktemp("lived")) as play:
        for _ in range(4):
            live(play)
        yield play


@pytest.fixture(scope="module", name="shared")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A market to which each test adds epochs of its own."""
    with stage(tmp_path_factory.mktemp("shared")) as play:
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


# --- the honest market


def test_all_that_is_due_is_there_and_fits(lived: Play):
    history, found = history_of(lived), audit(lived)
    assert history.schedule is not None
    ended = history.schedule.ended(history.size)
    assert ended > 4
    assert found.findings == ()
    assert found.missing == ()
    assert found.checked["journals"] == 2
    assert found.checked["use_indexes"] == history.next_use_index >= ended - 1
    for epochs in found.epochs:
        assert epochs.missing == ()
        assert epochs.closed >= ended - 1 - epochs.first
    assert context_of(lived).log.findings == []
    # Both kinds of epochs were there: with uses, and without.
    uses = [close.uses for close in closes(lived, 0)]
    assert 0 in uses
    assert sum(uses) == 4


def closes(play: Play, at: int) -> list[Epoch]:
    found = history_of(play).closes.get(play.seats[at].asset, [])
    return [each.statement for each in found if isinstance(each.statement, Epoch)]


def test_its_export_with_journals_and_tag_keys_is_sound(lived: Play, tmp_path: Path):
    log, key = context_of(lived).log, SigningKey.load(context_of(lived).settings.log_key)
    made = tmp_path / "export"
    extras = Extras(journals=[journal_of(lived, at) for at in (0, 1)])
    export(log, key, made, opened=range(log.size), scope="all", now=lived.clock(), extras=extras)
    assert verify(made, log.vkey).status == "sound"
    assert (made / "journals" / "001").is_file()


def test_a_journal_has_every_launch_and_every_end(lived: Play):
    first = read_journal(journal_of(lived, 0))
    kinds = [line.kind for line in first.lines]
    assert kinds.count(LAUNCH) == 4
    states = [line.body["state"] for line in first.lines if line.kind == FINISH]
    assert states.count("completed") == 4
    assert states.count("refused") == 4
    assert kinds.count(CLOSE) == len(closes(lived, 0))
    for line in first.lines:
        if line.kind == LAUNCH:
            assert line.body["grant"] in history_of(lived).by_id
            assert line.body["attempt"] == 1


def test_counts_and_journals_hold_no_cell(lived: Play):
    assert b"chol" not in journal_of(lived, 0)
    assert b"200" not in b"".join(
        json.dumps(line.body).encode()
        for line in read_journal(journal_of(lived, 0)).lines
        if line.kind not in (FINISH, CLOSE, LAUNCH, "reply", "reserve", "decide", "rows")
    )


def exported(play: Play, folder: Path, reader: str, *options: str) -> Path:
    """What the operator's command writes for a reader."""
    market = str(play.market.folder)
    command(["export", str(folder), "--data", market, "--for", reader, *options])
    return folder


def test_the_operator_hands_journals_and_tag_keys_to_an_auditor(lived: Play, tmp_path: Path):
    journal = tmp_path / "basel.journal"
    journal.write_bytes(journal_of(lived, 0))
    more = ("--journal", str(journal), "--tag-keys")
    made = exported(lived, tmp_path / "made", "Auditor", *more)
    assert verify(made, context_of(lived).log.vkey).status == "sound"
    assert (made / "journals" / "000").read_bytes() == journal.read_bytes()
    assert read_tag_keys((made / "tag-keys").read_bytes()) == keys_of(lived)


def test_who_does_not_see_everything_gets_neither(lived: Play, tmp_path: Path):
    journal = tmp_path / "basel.journal"
    journal.write_bytes(journal_of(lived, 0))
    for reader in ("basel", "Researcher"):
        for option in (("--journal", str(journal)), ("--tag-keys",)):
            with pytest.raises(ArgumentError, match="everything must be open"):
                exported(lived, tmp_path / "other", reader, *option)
    journal.write_bytes(journal_of(lived, 0).replace(b'"launch"', b'"lunch"', 1))
    with pytest.raises(ArgumentError, match=r"basel\.journal"):
        exported(lived, tmp_path / "other", "Auditor", "--journal", str(journal))
    assert not (tmp_path / "other").exists()


# --- nodes that lie to the auditor


def without(lines: list[JournalLine], kind: str) -> Lines:
    gone = next(line for line in lines if line.kind == kind and line.sequence > 8)
    return [line for line in lines if line is not gone]


LIES: dict[str, tuple[Callable[[list[JournalLine]], Lines], set[str]]] = {
    "an end is missing": (lambda lines: without(lines, FINISH), {"missing_line"}),
    "a launch is missing": (lambda lines: without(lines, LAUNCH), {"journal_mismatch"}),
    "a cut tail": (lambda lines: lines[:9], {"missing_line", "journal_mismatch"}),
    "a time changed": (
        lambda lines: [replace(lines[0], time=lines[0].time + 1), *lines[1:]],
        {"journal_mismatch"},
    ),
}


@pytest.mark.parametrize("what", LIES)
def test_a_journal_that_lost_something_is_found(lived: Play, what: str):
    change, codes = LIES[what]
    found = {finding.code for finding in audit(lived, change).findings}
    assert found & codes, found
    # The twin: the same lines, untouched.
    assert audit(lived, lambda lines: lines).findings == ()


def test_an_index_of_other_assets_is_found_with_the_tag_keys(lived: Play):
    keys = keys_of(lived)
    first, second = keys
    swapped = {first: keys[second], second: keys[first]}
    found = reconcile(history_of(lived), Evidence(tag_keys=swapped))
    assert {finding.code for finding in found.findings} == {"wrong_tag_key"}


# --- the market's own check of a close


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


def hand_in(play: Play, statement: Epoch, at: int = 0, by: int = 0) -> Any:
    """Hand in a close, signed by node `at`, with the credentials of node `by`."""
    http = play.market.http()
    http.headers["Authorization"] = f"Bearer {home_of(play, by).api_key()}"
    envelope = json.loads(statement.sign(home_of(play, at).node_key()))
    return http.post("/v1/closes", json={"statement": envelope})


def fill(play: Play, epochs: int = 1) -> None:
    """Let epochs end without anybody closing them."""
    size = history_of(play).size + 12 * epochs
    while history_of(play).size < size:
        play.job()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "other uses than the log": ({"uses": 99}, "wrong_uses"),
    "an epoch long past": ({"number": 0, "start": 0, "stop": 12}, "close_gap"),
    "other entries": ({"stop": 1 << 20}, "wrong_span"),
    "lines left out": ({"journal": JournalSpan(99, 99, "sha256:" + 64 * "0")}, "journal_gap"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_close_that_breaks_a_rule_is_not_taken(shared: Play, what: str):
    # Whichever test came before: the node has closed an epoch, and one more ends.
    fill(shared)
    assert hand_in(shared, close_of(shared)).status_code == 201
    fill(shared)
    changes, code = WRONG[what]
    size, before = history_of(shared).size, closes(shared, 0)
    answer = hand_in(shared, close_of(shared, **changes))
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert closes(shared, 0) == before
    # The twin.
    answer = hand_in(shared, close_of(shared))
    assert answer.status_code == 201, answer.text
    assert answer.json()["index"] >= size


def test_a_close_belongs_to_the_provider_of_its_asset(shared: Play):
    fill(shared)
    answer = hand_in(shared, close_of(shared), by=1)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_author")
    assert hand_in(shared, close_of(shared)).status_code == 201


def test_the_same_close_is_taken_once_and_another_one_not(shared: Play):
    fill(shared)
    statement = close_of(shared)
    first = hand_in(shared, statement)
    assert hand_in(shared, statement).json() == first.json()
    # Raced past the rules, the table still decides.
    context = context_of(shared)
    other = replace(statement, issued=statement.issued + 1)
    envelope = other.sign(home_of(shared, 0).node_key())
    from ledger.statements import read
    from marketplace.context import Verified
    from marketplace.errors import ConflictError
    from marketplace.participants.access import Caller

    caller = Caller(shared.seats[0].home.participant(), "basel", frozenset({"node"}))
    verified = Verified(read(envelope).id, other, envelope)
    with pytest.raises(ConflictError, match="other words"), context.writing() as session:
        service.close(session, context, caller, verified)


def test_a_node_that_counts_wrongly_is_found_by_its_receipts(play: Play):
    play.run("statistics", columns=["chol"])
    fill(play)
    lie = close_of(play, counts=Counts(0, 0, 0, 0))
    assert hand_in(play, lie).status_code == 201
    fill(play, 2)
    found = {finding.code for finding in reconcile(history_of(play)).findings}
    assert "uncounted_receipt" in found


# --- being away, and coming back


def test_a_node_that_was_away_closes_several_epochs_in_a_row(shared: Play):
    fill(shared, 3)
    node = shared.reopened(1)
    assert node.keep_books() >= 3
    # Its own closes, and indexes that the service adds meanwhile, may end further ones.
    assert any(node.keep_books() == 0 for _ in range(10))
    assert [close.number for close in closes(shared, 1)] == list(range(len(closes(shared, 1))))
    shared.market._open(home_of(shared, 1))


def test_a_market_closes_what_ended_while_it_was_away(tmp_path: Path):
    with stage(tmp_path) as play:
        fill(play, 2)
        assert history_of(play).closes == {}
        settings, clock = context_of(play).settings, play.clock
    from marketplace.embedded import Embedded

    with Embedded(tmp_path / "market", settings, clock) as market:
        history = market.app.state.context.log.history
        assert {len(found) >= 2 for found in history.closes.values()} == {True}
        assert len(history.closes) == 2


def test_a_node_whose_journal_was_cut_refuses_all_and_says_why(
    play: Play, caplog: pytest.LogCaptureFixture
):
    play.run("statistics", columns=["chol"])
    node = play.nodes[0]
    node._journal.close()
    (home_of(play, 0).folder / "journal.db").unlink()
    node = play.market._open(home_of(play, 0))
    size = history_of(play).size
    with pytest.raises(JournalCutError, match=r"Put the newest journal\.db back"):
        node.keep_books()
    job = play.job()
    with pytest.raises(JournalCutError):
        node.approve(job)
    with pytest.raises(JournalCutError):
        node.reject(job, "purpose_not_allowed")
    reply = play.ask(0, play.keys_request(job))
    assert reply == Failure(job, node.asset, "internal")
    # Nothing was signed over what is left.
    assert node._journal.lines() == []
    assert history_of(play).size == size + 1
    assert "cut, changed or restored" in caplog.text


def test_a_job_that_nobody_goes_on_with_ends_at_its_nodes(play: Play):
    job = play.job()
    grants = play.grant_all(job)
    asset = play.seats[0].asset
    play.ask(0, play.keys_request(job, grant=grants[asset]))
    node = play.nodes[0]
    node.keep_books()
    with node._journal.write() as book:
        assert book.is_reserved(job, asset)
    play.clock.advance(3_600_000)
    node.keep_books()
    with node._journal.write() as book:
        assert book.has_ended(job, asset)
    logged = history_of(play).receipts[history_of(play).by_id[asset].index][-1]
    assert (logged.statement.job, logged.statement.state) == (job, "failed")  # type: ignore[attr-defined]


# --- schedules


def test_an_older_log_begins_to_count_when_its_operator_says_so(tmp_path: Path):
    with stage(tmp_path, epoch_entries=0) as play:
        play.run("statistics", columns=["chol"])
        play.market.keep_books()
        assert history_of(play).schedule is None
        assert history_of(play).closes == {}
        http = play.market.http()
        key = context_of(play).settings.operator_api_key.read_text().strip()
        http.headers["Authorization"] = f"Bearer {key}"
        body = {"epoch_entries": 10, "grace_entries": 5}
        assert http.post("/v1/schedule", json={**body, "grace_entries": 0}).status_code == 422
        assert http.post("/v1/schedule", json=body).status_code == 201
        answer = http.post("/v1/schedule", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "second_schedule")
        live(play)
        live(play)
        assert [close.number for close in closes(play, 0)][:2] == [0, 1]
        assert audit(play).findings == ()


def test_a_new_log_says_its_schedule_once(lived: Play):
    assert history_of(lived).by_index[1].statement.kind == "schedule"
    context = context_of(lived)
    assert service.begin(context) is None
    other = replace(context.settings, epoch_entries=99)
    assert service.begin(replace(context, settings=other)) is None


# --- indexes


class CrashError(BaseException):
    """The process ends here."""


def test_a_crash_of_the_indexer_makes_no_second_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Indexer, "start", lambda _: None)
    with stage(tmp_path) as play:
        context = context_of(play)
        fill(play, 2)
        with pytest.raises(CrashError), context.writing() as session:
            crash_at_the_end(play, session, monkeypatch)
        assert history_of(play).next_use_index == 0
        made = service.index_next(context)
        assert made is not None
        # Not seen by the history yet, or just now: either way no second index of this epoch.
        again = service.index_next(context)
        context.logged(made)
        if again is not None:
            context.logged(again)
        index(play)
        numbers = [logged.statement.number for logged in history_of(play).use_indexes]  # type: ignore[attr-defined]
        assert numbers == list(range(len(numbers)))
        assert context.log.findings == []


def crash_at_the_end(play: Play, session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(play)

    @contextmanager
    def same() -> Iterator[Any]:
        yield session

    with monkeypatch.context() as patch:
        patch.setattr(type(context), "writing", lambda _: same())
        assert service.index_next(context) is not None
    raise CrashError


# --- tag keys


def test_each_asset_has_a_tag_key_that_its_provider_keeps(lived: Play):
    for seat in lived.seats:
        key = tag_keys.load(seat.home.folder, seat.asset)
        assert keys_of(lived)[seat.asset] == key
        file = next((seat.home.folder / "tag-keys").iterdir())
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        statement = history_of(lived).get(seat.asset, TaggedAsset)
        assert key.hex() not in repr(statement)
        said = b"".join(data for kind, data in lived.spoken if kind == "answer")
        for form in (key, key.hex().encode(), file.read_bytes().strip()):
            assert form not in said


def test_a_node_says_what_the_market_refused_for_good(shared: Play):
    from federated.errors import NotTakenError

    fill(shared)
    http = shared.market.http()
    http.headers["Authorization"] = f"Bearer {home_of(shared, 0).api_key()}"
    with pytest.raises(NotTakenError, match="409"):
        HttpService(http).submit(
            "epoch", close_of(shared, uses=7).sign(home_of(shared, 0).node_key())
        )
