"""Erasing leaves no byte of a statement, keeps every proof, and survives a crash at any step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger import store
from ledger.encoding import b64encode
from ledger.errors import CosigningError, LogError, RuleError, ViewError
from ledger.log import Log
from ledger.sealing import Erased, ViewKeys, finish_erasure, log_erasure, of_job, plan, under
from ledger.verify import SOUND, Plan, verify
from ledger.views import NO_AGREEMENT, Sealed
from tests.drafts import YEAR
from tests.sealed import CAUSE, agreement, erase, sealed_export, two_uses
from tests.world import World


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> World:
    return two_uses(tmp_path_factory.mktemp("ready"))


@pytest.fixture
def world(ready: World, tmp_path: Path) -> World:
    return ready.copy(tmp_path / "world")


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
