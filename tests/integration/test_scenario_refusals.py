"""Attempts at refusal, and their twins where nothing refuses: the attempts must bite."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.statements import JOB_REASONS
from marketplace.scenario import refusals
from marketplace.scenario.refusals import NOT_REFUSED, Attempts, open_watch
from tests.scenarios import Scenario, run, write_scenario

Ask = Callable[[], dict[str, str]]


def trying(*reasons: str) -> Callable[[Scenario], None]:
    def change(it: Scenario) -> None:
        it["refuse"] = [{"reason": reason} for reason in reasons]

    return change


@pytest.mark.parametrize("step", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_nodes_refuse_for_each_reason_in_any_order(
    step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    reasons = JOB_REASONS[::step]
    file = write_scenario(tmp_path, trying(*reasons))
    code, out, _ = run(capsys, file, tmp_path / "out", "--json")
    found = json.loads(out)
    assert [each["reason"] for each in found["refusals"] if each["held"]] == list(reasons)
    assert code == 0


def test_an_attempt_that_is_permitted_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The twin: with an ordinary job in the attempt's place, the nodes grant it."""

    def ordinary(self: Attempts) -> Ask:
        return self._for_grant(self._job(self._apart(uses=1)))

    monkeypatch.setattr(Attempts, "_purpose_not_allowed", ordinary)
    file = write_scenario(tmp_path, trying("purpose_not_allowed"))
    code, out, _ = run(capsys, file, tmp_path / "out")
    assert code == 1
    assert "NO   purpose not allowed" in out
    assert NOT_REFUSED in out


def test_a_node_that_opens_its_file_before_it_refuses_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    ask = Attempts._ask_grants

    def peeking(self: Attempts, job: str) -> dict[str, str]:
        self._stage.seats[0].part.file.read_bytes()
        return ask(self, job)

    monkeypatch.setattr(Attempts, "_ask_grants", peeking)
    file = write_scenario(tmp_path, trying("revoked"))
    code, out, _ = run(capsys, file, tmp_path / "out")
    assert code == 1
    assert "1 data files were opened" in " ".join(out.split())


def test_the_watch_hears_its_files_alone_and_only_while_it_watches(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    watch = open_watch()
    assert watch is refusals.open_watch()
    with watch.watching({str(one)}) as opened:
        other.read_text()
        assert opened == []
        one.read_text()
        assert opened == [str(one)]
    one.read_text()
    assert opened == [str(one)]
