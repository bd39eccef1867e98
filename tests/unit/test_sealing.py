"""The operator's side: view keys on demand, and exports that stay sealed but for them."""

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.encoding import b64encode
from ledger.export import Extras
from ledger.sealing import SealedOpenings, ViewKeys, public
from ledger.statements import Schedule, read
from ledger.verify import INCOMPLETE, SOUND, TAMPERED, Plan, verify
from ledger.views import Named, Sealed, Views
from tests.sealed import agreement, sealed_export, two_uses
from tests.world import World


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> World:
    return two_uses(tmp_path_factory.mktemp("ready"))


@pytest.fixture
def world(ready: World, tmp_path: Path) -> World:
    return ready.copy(tmp_path / "world")


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


def test_a_view_key_is_not_what_a_view_says_in_public(world: World, tmp_path: Path):
    folder = sealed_export(world, tmp_path / "export")
    views: Views = ViewKeys(world.engine).views(world.log)
    shown = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for key in views.keys.values():
        assert key not in shown
        assert b64encode(key).encode() not in shown
