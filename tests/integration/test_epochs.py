"""A market with nodes over several epochs: closes, indexes, journals and tag keys fit together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.export import Extras, export
from ledger.journal import CLOSE, FINISH, LAUNCH, JournalLine, read_journal
from ledger.keys import SigningKey
from ledger.reconcile import Evidence, reconcile
from ledger.statements import TaggedAsset
from ledger.use_index import read_tag_keys
from ledger.verify import verify
from marketplace import tag_keys
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.ledger import command
from marketplace.epochs import service
from marketplace.epochs.indexer import Indexer
from tests.epochs import (
    Lines,
    audit,
    closes,
    context_of,
    fill,
    history_of,
    index,
    journal_of,
    keys_of,
    live,
    stage,
)
from tests.stage import Play


@pytest.fixture(scope="module", name="lived")
def _lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A market that several jobs and epochs went through; nobody changes it."""
    with stage(tmp_path_factory.mktemp("lived")) as play:
        for _ in range(4):
            live(play)
        yield play


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
