"""Auditors with view keys: a monitor and a report open what the keys open, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.cli import main
from ledger.export import Extras
from ledger.finding import Report
from ledger.mirror import Mirror
from ledger.monitor import Monitor, Plan
from ledger.reconcile import reconcile
from ledger.report import open_report
from ledger.sealing import SealedOpenings, ViewKeys, public
from ledger.source import FolderSource
from ledger.standing import standing
from ledger.trust import Policy
from ledger.unsealing import Unsealing
from ledger.verdict import Verdict
from ledger.verify import Plan as AuditPlan
from ledger.verify import verify
from ledger.views import Sealed, Views
from tests.drafts import key_of
from tests.world import World

AUDITOR = key_of("auditor.example")
Change = Callable[[Sealed], Sealed]


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"), 2)
    world.put(world.schedule(epoch_entries=16))
    world.one_use()
    world.one_use()
    return world


def sealed_export(world: World, path: Path, change: Change | None = None) -> Path:
    """Everything that is not public is sealed, perhaps by an operator who lies."""

    class Lines(SealedOpenings):
        def __getitem__(self, index: int) -> bytes:
            line = super().__getitem__(index)
            return line if change is None else change(Sealed.from_bytes(line)).to_bytes()

    shown = public(world.log.history)
    rest = set(range(world.log.size)) - set(shown)
    return world.export(
        path, shown, extras=Extras(sealed=Lines(world.log, ViewKeys(world.engine), rest))
    )


def views_of(world: World, **only: Any) -> Views:
    return ViewKeys(world.engine).views(world.log, **only)


def look(state: Path, world: World, folder: Path, views: Views | None) -> Verdict:
    policy = Policy.of(world.log.vkey)
    with Mirror(state) as mirror:
        monitor = Monitor(mirror, policy, Plan(views=views))
        source = FolderSource(folder, policy)
        report = monitor.look(source)
        source.close()
        return standing(monitor, reconcile(monitor.history, tally=monitor.tally), report)


def test_a_monitor_opens_what_its_views_open(world: World, tmp_path: Path):
    folder = sealed_export(world, tmp_path / "export")
    closed = look(tmp_path / "closed", world, folder, None)
    everything = look(tmp_path / "all", world, folder, views_of(world))
    assert (everything.status, everything.sealed) == ("sound", 0)
    assert everything.checked["unsealed"] == closed.sealed > 0
    assert everything.checked["reconciled_jobs"] == 2
    assert "reconciled_jobs" not in closed.checked
    first = world.log.index_of(world.providers[0].agreement)
    mine = views_of(world, agreements=[first])
    some = look(tmp_path / "some", world, folder, mine)
    assert some.status == "sound"
    assert 0 < some.checked["unsealed"] < closed.sealed
    expected = verify(folder, world.log.vkey, AuditPlan(views=mine))
    assert (some.sealed, some.checked["unsealed"]) == (
        expected.sealed,
        expected.checked["unsealed"],
    )
    # Another process needs no keys for what was opened before.
    assert look(tmp_path / "all", world, folder, None).sealed == 0


def test_a_false_bill_under_a_view_is_found_by_its_holder_alone(world: World, tmp_path: Path):
    world = world.copy(tmp_path / "world")
    settled = next(iter(world.log.history.settled.values())).statement
    world.insecure_put(replace(settled, issued=world.clock()))
    folder = sealed_export(world, tmp_path / "export")
    found = look(tmp_path / "all", world, folder, views_of(world)).findings
    assert [item.code for item in found] == ["duplicate_settlement"]
    assert look(tmp_path / "closed", world, folder, None).findings == []


@pytest.mark.parametrize("wrong", ["key", "log"])
def test_views_that_open_nothing_are_said_to_be_wrong(world: World, tmp_path: Path, wrong: str):
    folder, views = sealed_export(world, tmp_path / "export"), views_of(world)
    if wrong == "key":
        views = replace(views, keys=dict.fromkeys(views.keys, bytes(32)))
    else:
        views = replace(views, origin="another.example/log")
    verdict = look(tmp_path / "state", world, folder, views)
    assert verdict.status == "incomplete"
    assert {item.code for item in verdict.missing} == {"wrong_view"}


def test_a_line_of_nonsense_is_tampering(world: World, tmp_path: Path):
    def change(sealed: Sealed) -> Sealed:
        return replace(sealed, box=bytes(len(sealed.box)))

    folder = sealed_export(world, tmp_path / "export", change)
    verdict = look(tmp_path / "state", world, folder, views_of(world))
    assert verdict.status == "tampered"
    assert {item.code for item in verdict.findings} == {"wrong_opening"}


def test_what_is_not_sealed_for_its_view_is_missed(world: World, tmp_path: Path):
    first = world.log.index_of(world.providers[0].agreement)

    def change(sealed: Sealed) -> Sealed:
        others = tuple(wrap for wrap in sealed.wraps if wrap[0].agreement != first)
        return replace(sealed, wraps=others or sealed.wraps)

    folder, mine = (
        sealed_export(world, tmp_path / "export", change),
        views_of(world, agreements=[first]),
    )
    verdict = look(tmp_path / "state", world, folder, mine)
    expected = verify(folder, world.log.vkey, AuditPlan(views=mine))
    assert {(item.code, item.where) for item in verdict.missing} == {
        (item.code, item.where) for item in expected.missing
    }
    assert "is not sealed for a view that covers it" in {item.message for item in verdict.missing}
    assert look(tmp_path / "state", world, folder, mine).missing == verdict.missing


def test_view_keys_on_the_command_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = sealed_export(world, tmp_path / "export")
    views_of(world).save(tmp_path / "views")
    AUDITOR.save(tmp_path / "auditor.key")
    key = ["--key", world.log.vkey.text]
    views = ["--views", str(tmp_path / "views")]
    state = ["--state", str(tmp_path / "state")]
    assert main(["audit", "monitor", str(folder), *state, *key, *views, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["checked"]["reconciled_jobs"] == 2
    signed = ["--sign-with", str(tmp_path / "auditor.key")]
    reports = {}
    for name, given in (("with", views), ("without", [])):
        out = ["--out", str(tmp_path / name)]
        assert main(["audit", "report", str(folder), *key, *given, *signed, *out]) == 0
        data = (tmp_path / name / "report.json").read_bytes()
        reports[name] = open_report(data, AUDITOR.verify_key)
    capsys.readouterr()
    assert reports["with"]["money"]["totals"]["settled"] == 4
    assert reports["without"]["money"]["totals"] == {}
    assert "--views FILE" in reports["with"]["reproduce"]["command"]
    assert [item["name"] for item in reports["with"]["evidence"]] == ["views"]
    rows = {row["kind"]: row for row in reports["with"]["disclosure"]}
    assert (rows["job"]["opened"], rows["job"]["enclosed"]) == (2, 0)
    rows = {row["kind"]: row for row in reports["without"]["disclosure"]}
    assert (rows["job"]["opened"], rows["job"]["enclosed"]) == (0, 2)
    # A state holds in the clear what was opened; a service shows nothing that is enclosed.
    out = ["--out", str(tmp_path / "state report")]
    assert main(["audit", "report", str(tmp_path / "state"), *key, *views, *signed, *out]) == 64
    assert "give them to the monitor" in capsys.readouterr().err
    assert main(["audit", "monitor", "https://market.example", *state, *key, *views]) == 64
    assert "name the folder" in capsys.readouterr().err


def test_what_is_sealed_for_a_leaf_that_is_no_entry_is_left_to_the_rules(
    world: World, tmp_path: Path
):
    """An operator signs a log whose leaf is nonsense, and seals something for it."""
    folder, report = sealed_export(world, tmp_path / "export"), Report()
    source = FolderSource(folder, Policy.of(world.log.vkey))
    unsealing = Unsealing(views_of(world))
    unsealing.begin(world.log.vkey.name, report)
    raw = [entry.to_bytes() for entry in world.entries()]
    (place, *_) = source.sealed(0, len(raw))
    everything = unsealing.open(source, 0, raw, report)
    raw[place] = b"{}"
    rest = unsealing.open(source, 0, raw, report)
    source.close()
    assert everything.keys() - rest.keys() == {place}
    assert (unsealing.enclosed, report.findings, report.missing) == ([], [], [])
