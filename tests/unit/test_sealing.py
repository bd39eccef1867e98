"""The operator's side: view keys on demand, sealed exports, and erasing that leaves no byte."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger import store
from ledger.encoding import b64encode
from ledger.errors import CosigningError, LogError, RuleError, ViewError
from ledger.export import Extras
from ledger.log import Log
from ledger.sealing import (
    Erased,
    SealedOpenings,
    ViewKeys,
    finish_erasure,
    log_erasure,
    of_job,
    plan,
    public,
    under,
)
from ledger.statements import Schedule, read
from ledger.verify import INCOMPLETE, SOUND, TAMPERED, Plan, verify
from ledger.views import NO_AGREEMENT, Named, Sealed, Views
from tests.world import YEAR, World

CAUSE = "retention period over"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two uses; everything closed and indexed; the agreements revoked."""
    world = World(tmp_path_factory.mktemp("ready"), providers=2)
    world.put(world.schedule(epoch_entries=16))
    world.one_use()
    world.use = world.one_use()
    while world.log.size % 16:
        world.put(world.revoke(world.providers[0], world.providers[0].offer))
    world.close_epochs()
    for provider in world.providers:
        world.put(world.revoke(provider, provider.agreement))
    return world


@pytest.fixture
def world(ready: World, tmp_path: Path) -> World:
    return ready.copy(tmp_path / "world")


def sealed_export(world: World, path: Path, opened: list[int] | None = None) -> Path:
    """What is not opened is sealed; what was erased is marked."""
    erased = [index for index in world.log.history.shredded if index < world.log.size]
    shown = [i for i in public(world.log.history) if opened is None or i in opened]
    rest = set(range(world.log.size)) - set(shown) - set(erased)
    lines = SealedOpenings(world.log, ViewKeys(world.engine), rest)
    return world.export(path, shown, extras=Extras(sealed=lines, erased=erased))


def agreement(world: World, number: int = 0) -> int:
    return world.log.index_of(world.providers[number].agreement)


def erase(world: World, indexes: list[int]) -> list[int]:
    found = plan(world.log.history, indexes, world.clock())
    world.clock.advance()
    now = world.clock()
    logged = log_erasure(world.log, world.engine, found, world.operator.key, CAUSE, now)
    finish_erasure(world.log, world.engine, world.folder / "erasing")
    return logged


# Views.


def test_a_view_key_is_drawn_once_and_kept(world: World):
    name = Named(5, 0)
    (first,) = ViewKeys(world.engine).get([name], None)
    assert ViewKeys(world.engine).get([name, name], None) == [first]
    others = ViewKeys(world.engine).get([Named(5, 1), Named(9, 0)], None)
    assert len({first.key, *(view.key for view in others)}) == 3


def test_a_schedule_that_comes_later_gets_keys_of_its_own(world: World):
    keys = ViewKeys(world.engine)
    assert keys.get([Named(5, 0)], None) != keys.get([Named(5, 0)], Schedule(8, 8, 0))


def test_views_are_those_of_the_agreement_and_epochs_asked_for(world: World):
    keys, first = ViewKeys(world.engine), agreement(world)
    everything = keys.views(world.log)
    assert everything.origin == world.log.vkey.name
    assert {named.agreement for named in everything.keys} == {first, agreement(world, 1), -1}
    chosen = keys.views(world.log, agreements=[first], epochs=[0, 1])
    assert set(chosen.keys) == {Named(first, 0), Named(first, 1)}
    assert all(everything.keys[named] == key for named, key in chosen.keys.items())


def test_all_views_open_everything_and_the_export_is_sound(world: World, tmp_path: Path):
    folder = sealed_export(world, tmp_path / "export")
    closed = verify(folder, world.log.vkey)
    assert closed.enclosed == closed.sealed > 0
    views = ViewKeys(world.engine).views(world.log)
    verdict = verify(folder, world.log.vkey, Plan(views=views))
    assert (verdict.status, verdict.sealed, verdict.unchecked) == (SOUND, 0, 0)
    assert verdict.missing == verdict.findings == []
    assert verdict.checked["unsealed"] == closed.enclosed
    twice = verify(folder, world.log.vkey, Plan(views=views, processes=2))
    assert twice == verdict


def test_one_view_opens_what_rests_on_its_agreement_in_its_epoch_and_nothing_else(
    world: World, tmp_path: Path
):
    folder = sealed_export(world, tmp_path / "export")
    history, first = world.log.history, agreement(world)
    views = ViewKeys(world.engine).views(world.log, agreements=[first], epochs=[1])
    verdict = verify(folder, world.log.vkey, Plan(views=views))
    expected = [
        entry.index
        for entry in history.entries
        if first in history.agreements_under(entry.index) and 16 <= entry.index < 32
    ]
    assert verdict.checked["unsealed"] == len(expected) > 0
    assert verdict.status == SOUND


@pytest.mark.parametrize("wrong", ["key", "log"])
def test_views_of_another_export_or_log_are_said_to_be_wrong(
    world: World, tmp_path: Path, wrong: str
):
    folder = sealed_export(world, tmp_path / "export")
    views = ViewKeys(world.engine).views(world.log, agreements=[agreement(world)])
    if wrong == "key":
        views = replace(views, keys=dict.fromkeys(views.keys, bytes(32)))
    else:
        views = replace(views, origin="another.example/log")
    verdict = verify(folder, world.log.vkey, Plan(views=views))
    assert verdict.status == INCOMPLETE
    assert {item.code for item in verdict.missing} == {"wrong_view"}
    assert verdict.checked.get("unsealed", 0) == 0


def test_an_entry_that_the_operator_does_not_seal_for_its_view_is_missed(
    world: World, tmp_path: Path
):
    views, first = ViewKeys(world.engine).views(world.log), agreement(world)

    class Lying(SealedOpenings):
        def __getitem__(self, index: int) -> bytes:
            sealed = Sealed.from_bytes(super().__getitem__(index))
            others = tuple(wrap for wrap in sealed.wraps if wrap[0].agreement != first)
            return replace(sealed, wraps=others or sealed.wraps).to_bytes()

    rest = set(range(world.log.size)) - set(public(world.log.history))
    lines = Lying(world.log, ViewKeys(world.engine), rest)
    folder = world.export(
        tmp_path / "export", public(world.log.history), extras=Extras(sealed=lines)
    )
    mine = {named: key for named, key in views.keys.items() if named.agreement == first}
    verdict = verify(folder, world.log.vkey, Plan(views=replace(views, keys=mine)))
    assert verdict.status == INCOMPLETE
    assert {item.code for item in verdict.missing} == {"wrong_view"}
    assert {item.message for item in verdict.missing} == {"is not sealed for a view that covers it"}


def test_a_line_that_opens_to_nonsense_is_tampering(world: World, tmp_path: Path):
    class Lying(SealedOpenings):
        def __getitem__(self, index: int) -> bytes:
            sealed = Sealed.from_bytes(super().__getitem__(index))
            return replace(sealed, box=bytes(len(sealed.box))).to_bytes()

    rest = set(range(world.log.size)) - set(public(world.log.history))
    lines = Lying(world.log, ViewKeys(world.engine), rest)
    folder = world.export(
        tmp_path / "export", public(world.log.history), extras=Extras(sealed=lines)
    )
    views = ViewKeys(world.engine).views(world.log)
    verdict = verify(folder, world.log.vkey, Plan(views=views))
    assert verdict.status == TAMPERED
    assert {item.code for item in verdict.findings} == {"wrong_opening"}


def test_what_is_public_names_no_closed_statement(world: World):
    history, shown = world.log.history, set(public(world.log.history))
    kinds = {history.entries[index].kind for index in shown}
    assert {"participant", "asset", "offer", "schedule", "use_index"} <= kinds
    assert not kinds & {"agreement", "job", "grant", "receipt", "release", "settlement", "epoch"}
    closed = [
        logged.id.encode() for index, logged in history.by_index.items() if index not in shown
    ]
    for index in shown:
        text = read(world.log.opening(index).envelope).statement
        assert not any(item in repr(text).encode() for item in closed)
    # A revocation of an agreement may be read by every participant, and names it.
    revoked = world.log.index_of(world.providers[0].agreement)
    (ended,) = (e for e in history.entries if e.kind == "revocation" and revoked in e.references)
    assert ended.index not in shown


# Erasing.


def test_a_whole_agreement_is_erased_and_every_proof_stays(world: World, tmp_path: Path):
    asked = under(world.log.history, agreement(world))
    before, root = world.openings(), world.log.checkpoint()
    logged = erase(world, asked)
    shreds = [world.log.history.by_index[index].statement for index in logged]
    assert [item.payload()["erased_kind"] for item in shreds] == [
        "agreement",
        "job",
        "grant",
        "receipt",
        "release",
        "settlement",
    ]
    gone = {item.index for item in before} - {item.index for item in world.openings()}
    assert gone == set(asked)
    assert root != world.log.checkpoint()
    with pytest.raises(LogError, match="was erased"):
        world.log.opening(asked[0])
    verdict = verify(sealed_export(world, tmp_path / "export"), world.log.vkey)
    assert (verdict.status, verdict.erased) == (SOUND, len(asked))
    assert verdict.erased_kinds == {
        "agreement": 1,
        "grant": 4,
        "job": 2,
        "receipt": 4,
        "release": 2,
        "settlement": 2,
    }


def test_the_log_opens_again_with_erased_rows_and_finds_nothing_wrong(world: World, tmp_path: Path):
    asked = under(world.log.history, agreement(world))
    erase(world, asked)
    checkpoint = world.log.checkpoint()
    world.log = world.open_log()
    assert world.log.checkpoint() == checkpoint
    assert world.log.findings == []
    assert set(world.log.history.shredded) == set(asked)
    world.put(world.revoke(world.providers[1], world.providers[1].offer))
    views = ViewKeys(world.engine).views(world.log)
    folder = sealed_export(world, tmp_path / "export")
    assert verify(folder, world.log.vkey, Plan(views=views)).status == SOUND


def test_one_job_is_erased_and_the_other_stays(world: World):
    assert world.use is not None
    job = world.log.index_of(world.use.job)
    asked = of_job(world.log.history, job)
    erase(world, asked)
    kept = {item.index for item in world.openings()}
    assert job not in kept
    assert agreement(world) in kept
    others = [entry for entry in world.entries() if entry.kind == "job" and entry.index != job]
    assert all(entry.index in kept for entry in others)
    assert len(asked) == 1 + 2 + 2 + 1 + 1


def test_the_views_of_what_was_erased_open_earlier_exports_to_nobody_new(
    world: World, tmp_path: Path
):
    assert world.use is not None
    folder, job = sealed_export(world, tmp_path / "before"), world.log.index_of(world.use.job)
    handed_out = ViewKeys(world.engine).views(world.log)
    erase(world, of_job(world.log.history, job))
    fresh = ViewKeys(world.engine).views(world.log)
    named = [
        named
        for named in fresh.keys
        if named.agreement != NO_AGREEMENT and named.epoch == job // 16
    ]
    assert named
    assert all(fresh.keys[item] != handed_out.keys[item] for item in named)
    line = {
        Sealed.from_bytes(text).index: text
        for text in (folder / "sealed" / "000").read_bytes().splitlines()
    }[job]
    entry = world.entries()[job]
    with pytest.raises(ViewError):
        Sealed.from_bytes(line).open(entry, fresh)
    # Copies that were disclosed before stay with whoever got them.
    assert Sealed.from_bytes(line).open(entry, handed_out).index == job


def bytes_on_disk(world: World) -> bytes:
    world.engine.dispose()
    files = sorted(world.folder.glob("log.sqlite*"))
    assert files
    return b"".join(path.read_bytes() for path in files)


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_no_file_of_the_database_holds_the_bytes_any_more(world: World, journal: str):
    with world.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA journal_mode = {journal}")
    asked = under(world.log.history, agreement(world))
    gone = [item for item in world.openings() if item.index in asked]
    epochs = {index // 16 for index in asked}
    keys = ViewKeys(world.engine).views(world.log, agreements=[agreement(world)], epochs=epochs)
    secrets = [part for item in gone for part in (item.salt, item.envelope)]
    secrets += [b64encode(item.salt).encode() for item in gone] + list(keys.keys.values())
    before = bytes_on_disk(world)
    assert sum(item in before for item in secrets) >= 2 * len(gone) + len(keys.keys)
    erase(world, asked)
    after = bytes_on_disk(world)
    assert [item for item in secrets if item in after] == []
    assert all(item.envelope in after for item in world.openings())


def test_the_twin_that_only_empties_the_rows_leaves_bytes_behind(world: World):
    asked = under(world.log.history, agreement(world))
    gone = [item for item in world.openings() if item.index in asked]
    with world.engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete = OFF")
        connection.execute(
            store.entries.update()
            .where(store.entries.c.index.in_(asked))
            .values(envelope=None, salt=None)
        )
    after = bytes_on_disk(world)
    assert any(item.salt in after or item.envelope[:600] in after for item in gone)


# What must stay.


@pytest.mark.parametrize("ended", [False, True])
def test_an_agreement_goes_when_its_time_is_over_and_not_before(tmp_path: Path, *, ended: bool):
    world = World.with_one_use(tmp_path / "world", providers=2)
    if ended:
        world.clock.advance(2 * YEAR)
        world.put(world.offer(world.providers[0]))
    found = plan(world.log.history, under(world.log.history, agreement(world)), world.clock())
    if ended:
        assert len(found.entries) == 8
        assert found.kept == ()
    else:
        assert found.entries == ()
        assert {reason.rpartition("entry ")[2] for _, reason in found.kept} <= {
            f"{agreement(world, number)} is still in force" for number in (0, 1)
        }


def test_what_rests_on_two_agreements_stays_until_both_have_ended(tmp_path: Path):
    world = World.with_one_use(tmp_path / "world", providers=2)
    first, second = agreement(world), agreement(world, 1)
    world.put(world.revoke(world.providers[0], world.providers[0].agreement))
    found = plan(world.log.history, under(world.log.history, first), world.clock())
    assert found.entries == (first,)
    assert {reason for _, reason in found.kept} == {
        f"the agreement of entry {second} is still in force"
    }
    with pytest.raises(RuleError, match="still in force") as caught:
        log_erasure(
            world.log,
            world.engine,
            replace(found, entries=(found.kept[0][0],)),
            world.operator.key,
            CAUSE,
            world.clock(),
        )
    assert caught.value.code == "shred_too_early"


def test_a_job_that_is_not_over_stays_with_its_agreements(tmp_path: Path):
    world = World(tmp_path / "world", providers=2)
    job, grants = world.granted_job()
    for provider in world.providers:
        world.put(world.revoke(provider, provider.agreement))
    asked = under(world.log.history, agreement(world))
    index = world.log.index_of(job)
    found = plan(world.log.history, asked, world.clock())
    assert found.entries == ()
    assert {reason for _, reason in found.kept} == {f"the job of entry {index} is not over"}
    world.clock.advance(YEAR)
    assert len(plan(world.log.history, asked, world.clock()).entries) == 2 + len(grants)


@pytest.mark.parametrize("closed", [False, True])
def test_a_receipt_stays_until_its_epoch_is_closed_and_indexed(tmp_path: Path, *, closed: bool):
    world = World(tmp_path / "world", providers=2)
    world.put(world.schedule())
    world.use = world.one_use()
    if closed:
        world.close_epochs()
    for provider in world.providers:
        world.put(world.revoke(provider, provider.agreement))
    receipts = [world.log.index_of(name) for name in world.use.receipts]
    found = plan(world.log.history, receipts, world.clock())
    assert list(found.entries) == (receipts if closed else [])
    assert len(found.kept) == (0 if closed else 2)


def test_what_is_erased_already_is_neither_erased_nor_kept(world: World):
    asked = under(world.log.history, agreement(world))
    erase(world, asked)
    found = plan(world.log.history, asked, world.clock())
    assert (found.entries, found.kept) == ((), ())
    assert finish_erasure(world.log, world.engine, world.folder / "erasing") == 0


# Crashes: logged first, then erased; the next start goes on.


class CrashError(Exception):
    pass


def crash(*_args: object, **_named: object) -> None:
    raise CrashError


@pytest.mark.parametrize(
    "step",
    ["ledger.sealing._forget", "ledger.sealing._rewrite", "copies", "ledger.durable.replace"],
)
def test_a_crash_after_the_entry_is_made_good_at_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
):
    asked = under(world.log.history, agreement(world))
    gone = [item for item in world.openings() if item.index in asked]
    found = plan(world.log.history, asked, world.clock())
    log_erasure(world.log, world.engine, found, world.operator.key, CAUSE, world.clock())
    marker, copies = world.folder / "erasing", nothing
    with monkeypatch.context() as patch:
        if step == "copies":
            copies = crash
        else:
            patch.setattr(step, crash)
        with pytest.raises(CrashError):
            finish_erasure(world.log, world.engine, marker, copies)
    after = bytes_on_disk(world)
    # Either all of it is still there, or none can be had from the tables.
    assert len(world.openings()) in (world.log.size, world.log.size - len(asked))
    assert any(item.envelope in after for item in gone) or step == "ledger.sealing._rewrite"
    world.log = world.open_log()
    assert world.log.findings == []
    finish_erasure(world.log, world.engine, marker)
    assert not marker.exists()
    after = bytes_on_disk(world)
    assert not any(part in after for item in gone for part in (item.salt, item.envelope))
    assert finish_erasure(world.log, world.engine, marker, crash) == 0


def nothing(_connection: sa.Connection, _erased: object) -> None:
    return


def test_a_crash_before_the_entry_leaves_everything_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    found = plan(world.log.history, under(world.log.history, agreement(world)), world.clock())
    before = world.openings()
    with monkeypatch.context() as patch:
        patch.setattr("ledger.log.Log.submit", crash)
        with pytest.raises(CrashError):
            log_erasure(world.log, world.engine, found, world.operator.key, CAUSE, world.clock())
    world.log = world.open_log()
    assert world.openings() == before
    assert finish_erasure(world.log, world.engine, world.folder / "erasing", crash) == 0


def test_what_else_holds_a_statement_is_erased_with_it(world: World):
    seen: list[Erased] = []

    def copies(connection: sa.Connection, erased: list[Erased]) -> None:
        assert connection.in_transaction()
        seen.extend(erased)

    assert world.use is not None
    asked = of_job(world.log.history, world.log.index_of(world.use.job))
    found = plan(world.log.history, asked, world.clock())
    log_erasure(world.log, world.engine, found, world.operator.key, CAUSE, world.clock())
    hook: Callable[..., None] = copies
    assert finish_erasure(world.log, world.engine, world.folder / "erasing", hook) == len(asked)
    assert [item.index for item in seen] == asked
    assert seen[0].statement_id == world.use.job


def test_somebody_who_reads_the_database_meanwhile_is_named(world: World):
    with world.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = wal")
    assert world.use is not None
    asked = of_job(world.log.history, world.log.index_of(world.use.job))
    found = plan(world.log.history, asked, world.clock())
    log_erasure(world.log, world.engine, found, world.operator.key, CAUSE, world.clock())
    marker = world.folder / "erasing"
    with world.engine.connect() as reader:
        reader.exec_driver_sql("BEGIN")
        reader.exec_driver_sql("SELECT count(*) FROM log_entry").all()
        with pytest.raises(LogError, match="start again"):
            finish_erasure(world.log, world.engine, marker)
    assert marker.exists()
    assert finish_erasure(world.log, world.engine, marker) == 0
    assert not marker.exists()


def test_a_view_key_is_not_what_a_view_says_in_public(world: World, tmp_path: Path):
    folder = sealed_export(world, tmp_path / "export")
    views: Views = ViewKeys(world.engine).views(world.log)
    shown = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for key in views.keys.values():
        assert key not in shown
        assert b64encode(key).encode() not in shown


def test_what_no_quorum_has_seen_is_not_erased_yet(world: World):
    def silent(_note: bytes, _tree: object) -> bytes:
        raise CosigningError("0 of 2 witnesses answered")

    checkpoint = world.log.checkpoint()
    (world.folder / "checkpoints" / "cosigned").write_bytes(checkpoint)
    folder = world.folder / "checkpoints"
    world.log = Log(world.engine, world.log_key, folder, world.clock, cosign=silent)
    asked = under(world.log.history, agreement(world))
    found = plan(world.log.history, asked, world.clock())
    before = world.openings()
    with pytest.raises(LogError, match="0 of 2 witnesses"):
        log_erasure(world.log, world.engine, found, world.operator.key, CAUSE, world.clock())
    marker = world.folder / "erasing"
    assert finish_erasure(world.log, world.engine, marker, crash) == 0
    assert world.openings() == before
    world.log = world.open_log()
    assert finish_erasure(world.log, world.engine, marker) == 1
