"""A node that leaves a real job: what is released, logged, billed, and recomputed without it.

The whole embedded market, with four hospitals of which three are enough; replies are lost between
its Grid and its coordinator. See `test_dropouts.py` for every step at which a node may leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from federated.messages import read_request
from federated.node.journal import step_of
from federated.records import unpack
from federated.rounds import Opened
from ledger.export import export
from ledger.keys import SigningKey
from ledger.statements import Job, Receipt, Release, Revocation, Settlement
from ledger.verify import verify
from marketplace import embedded
from marketplace.gathering import gather
from marketplace.recompute import Evidence, ResultError, recompute
from tests.fake_nodes import Losing
from tests.stage import LABEL, Play, open_stage, terms
from tests.talk import FOUR, TABLES

MINIMUM = 3
STEPS = ("keys", "shares 1", "1", "survivors 1", "unmask 1", "2", "survivors 2", "unmask 2")


@contextmanager
def stage(folder: Path, minimum: int = MINIMUM) -> Iterator[Play]:
    folder.mkdir(exist_ok=True)
    agreed = terms(uses=99, minimum_parties=minimum)
    with open_stage(folder, FOUR, preparation={"label": LABEL}, agreed=agreed) as play:
        yield play


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    with stage(tmp_path_factory.mktemp("four") / "stage") as play:
        for node in play.nodes:
            # A node counts the jobs that it left after an answer; here are many.
            node._limits = replace(node._limits, unfinished=999)
        yield play
        audited(play, tmp_path_factory.mktemp("export") / "export")


def audited(play: Play, folder: Path) -> None:
    """Have the log exported and verified by a stranger."""
    context = play.market.app.state.context
    key = SigningKey.load(context.settings.log_key)
    log = context.log
    export(log, key, folder, opened=range(log.size), scope="all", now=play.clock())
    verdict = verify(folder, log.vkey)
    assert verdict.findings == []
    assert verdict.status == "sound"


def run_without(
    play: Play, patch: pytest.MonkeyPatch, lost: dict[int, str], **parameters: Any
) -> tuple[str, dict[str, Any]]:
    """Run a job in which the replies of seats are lost from a step on; return it at its end."""
    job = play.job("statistics", parameters={"columns": ["chol"], **parameters})
    history = play.market.app.state.context.log.history
    # As the market numbers nodes: in the job's order, from two.
    order = {asset: at for at, asset in enumerate(history.get(job, Job).assets, start=2)}

    class Lossy(Losing):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.lose = {order[play.seats[at].asset]: step for at, step in lost.items()}

    with patch.context() as patched:
        patched.setattr(embedded, "InProcessGrid", Lossy)
        play.market.decide()
        return job, play.stage.wait(job)


def evidence_of(play: Play, job: str) -> tuple[Evidence, dict[str, Any]]:
    released, evidence = gather(play.researcher.call, play.researcher.log, job)
    return evidence, released


def mean_of(*names: str) -> float:
    cells = [
        float(line.split(",")[0]) for name in names for line in FOUR[name].splitlines()[1:] if line
    ]
    return sum(cells) / len(cells)


def rows_of(*names: str) -> int:
    return sum(len(FOUR[name].splitlines()) - 1 for name in names)


STAYED = tuple(TABLES)


@pytest.mark.parametrize("step", STEPS)
def test_the_released_result_is_that_of_those_who_stayed(
    play: Play, monkeypatch: pytest.MonkeyPatch, step: str
):
    job, view = run_without(play, monkeypatch, {3: step})
    assert view["state"] == "released", view
    found = play.researcher.result(job)["chol"]
    assert found["count"] == rows_of(*STAYED)
    assert found["mean"] == pytest.approx(mean_of(*STAYED), rel=1e-13)
    left = play.seats[3].asset
    history = play.market.app.state.context.log.history
    release = history.released[job].statement
    assert isinstance(release, Release)
    receipts = [history.get(each, Receipt) for each in release.receipts]
    assert {each.asset for each in receipts} == {seat.asset for seat in play.seats[:3]}
    assert {each.state for each in receipts} == {"completed"}
    # The bill has lines for those alone, and the use of the one that left was given back.
    bill = history.settled[job].statement
    assert isinstance(bill, Settlement)
    agreed = dict(zip(history.get(job, Job).assets, history.get(job, Job).agreements, strict=True))
    assert agreed[left] not in {line.agreement for line in bill.lines}
    assert len(bill.lines) == 3
    (party,) = [each for each in view["parties"] if each["asset"] == left]
    assert party["reason"] in ("no_reply", "cancelled")
    # It heard of the end, and its own account of it is in the log: nothing was completed there.
    node = play.nodes[3]
    with node._journal.write() as book:
        assert not book.is_reserved(job, left)
    place = history.by_id[left].index
    (own,) = [each.statement for each in history.receipts[place] if each.statement.job == job]
    assert (own.state, own.reason) == ("failed", "cancelled")


def test_uses_of_whoever_left_are_not_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "stage"
    folder.mkdir()
    agreed = terms(uses=2, minimum_parties=MINIMUM)
    with open_stage(folder, FOUR, preparation={"label": LABEL}, agreed=agreed) as play:
        job, view = run_without(play, monkeypatch, {3: "2"})
        assert view["state"] == "released", view
        history = play.market.app.state.context.log.history
        statement = history.get(job, Job)
        agreed_by = dict(zip(statement.assets, statement.agreements, strict=True))
        used = {seat.asset: history.completed_uses[agreed_by[seat.asset]] for seat in play.seats}
        assert [used[seat.asset] for seat in play.seats] == [1, 1, 1, 0]
        play.run("statistics", columns=["chol"])
        audited(play, tmp_path / "export")


def test_one_lost_between_the_others_receipts_and_its_own_costs_nobody_a_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Guards: who had receipted the job as completed had used it up, and nothing was released.

    One use is agreed: a second job runs only if service, nodes and log all give the first one back.
    """
    folder = tmp_path / "stage"
    folder.mkdir()
    agreed = terms(uses=1, minimum_parties=MINIMUM)
    with open_stage(folder, FOUR, preparation={"label": LABEL}, agreed=agreed) as play:
        job, view = run_without(play, monkeypatch, {3: "finish"})
        assert (view["state"], view["error"]["reason"]) == ("failed", "no_reply"), view
        context = play.market.app.state.context
        history = context.log.history
        assert {each["uses_left"] for each in play.researcher.call("GET", "/agreements")} == {1}
        second = play.job("statistics", parameters={"columns": ["chol"]})
        play.market.decide()
        assert play.stage.wait(second)["state"] == "released"
        revoked = history.by_index[history.revoked[job]].read_as(Revocation)
        assert (revoked.issuer, revoked.cause) == (context.operator, "failed: no_reply")
        # The one whose reply was lost had signed too: no receipt is missing.
        assert len(history.completed[job]) == len(FOUR)
        assert set(history.completed_uses.values()) == {1}
        audited(play, tmp_path / "export")


def test_where_too_few_stay_the_job_fails_and_names_them(
    play: Play, monkeypatch: pytest.MonkeyPatch
):
    job, view = run_without(play, monkeypatch, {2: "1", 3: "2"})
    assert view["state"] == "failed", view
    reasons = {each["asset"]: each["reason"] for each in view["parties"]}
    assert view["error"]["reason"] == "no_reply"
    for at in (2, 3):
        assert play.seats[at].part.name in view["error"]["message"]
        assert reasons[play.seats[at].asset] in ("no_reply", "cancelled")
    history = play.market.app.state.context.log.history
    assert job not in history.released
    assert job not in history.settled


def test_where_the_terms_ask_for_all_one_that_leaves_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with stage(tmp_path / "stage", minimum=4) as play:
        _, view = run_without(play, monkeypatch, {3: "1"})
        assert view["state"] == "failed", view
        assert view["error"]["reason"] == "no_reply"


@pytest.mark.parametrize("step", ["shares 1", "1", "survivors 1", "unmask 1", "2", "unmask 2"])
def test_a_node_that_restarted_comes_back_and_is_in_the_result(
    play: Play, monkeypatch: pytest.MonkeyPatch, step: str
):
    restarted = play.nodes[3]

    class Forgetting(embedded.InProcessGrid):
        """Restarts a node before it hears of a step: what it kept in memory is gone."""

        done = False

        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
            kept = list(messages)
            steps = {step_of(read_request(unpack(message))) for message in kept}
            if step in steps and not self.done:
                self.done = True
                restarted._work.clear()
            return super().send_and_receive(kept, timeout=timeout)

    job = play.job("statistics")
    with monkeypatch.context() as patched:
        patched.setattr(embedded, "InProcessGrid", Forgetting)
        play.market.decide()
        view = play.stage.wait(job)
    assert view["state"] == "released", view
    found = play.researcher.result(job)["chol"]
    assert found["count"] == rows_of(*FOUR)
    assert found["mean"] == pytest.approx(mean_of(*FOUR), rel=1e-13)
    history = play.market.app.state.context.log.history
    assert len(history.completed[job]) == 4


# --- the researcher's own check


def opened(evidence: Evidence, number: int, **changes: Any) -> Evidence:
    kept = evidence.exchanges.opened
    made = {**kept, number: replace(kept[number], **changes)}
    return replace(evidence, exchanges=replace(evidence.exchanges, opened=made))


def test_the_researcher_recomputes_it_and_refuses_each_twin(
    play: Play, monkeypatch: pytest.MonkeyPatch
):
    job, _ = run_without(play, monkeypatch, {3: "1"})
    evidence, released = evidence_of(play, job)
    assert recompute(evidence, released, None) == released
    left = play.seats[3].asset
    (key,) = evidence.exchanges.opened[1].mask_keys.values()
    seeds = dict(evidence.exchanges.opened[1].seeds)
    some = min(seeds)
    twins: dict[str, tuple[Evidence, str]] = {
        "a seed": (opened(evidence, 1, seeds={**seeds, some: bytes(32)}), "committed to"),
        "a mask key": (opened(evidence, 1, mask_keys={left: bytes(32)}), "not the one that it"),
        "nobody left": (opened(evidence, 1, mask_keys={}), "neither survivor nor dropped"),
        "both": (opened(evidence, 1, seeds={**seeds, left: bytes(32)}), "both contributed"),
        "another left": (opened(evidence, 1, mask_keys={left: key, some: key}), "both contributed"),
        "another round's": (opened(evidence, 2, seeds=seeds), "committed to"),
    }
    for what, (twin, says) in twins.items():
        with pytest.raises(ResultError, match=says):
            recompute(twin, released, None)
        assert what


def test_a_contribution_of_whoever_left_does_not_slip_in(
    play: Play, monkeypatch: pytest.MonkeyPatch
):
    job, _ = run_without(play, monkeypatch, {3: "1"})
    evidence, released = evidence_of(play, job)
    # It did answer, too late; and the operator has what it sent, and its receipt of that.
    history = play.market.app.state.context.log.history
    left = play.seats[3].asset
    logged = history.receipts[history.by_id[left].index]
    (late,) = [each for each in logged if each.statement.job == job]
    assert isinstance(late.statement, Receipt)
    node = play.nodes[3]
    with node._journal.write() as book:
        stored = book.reply(job, left, 1, "1")
    assert stored is not None
    request, _ = evidence.exchanges.bodies[(play.seats[0].asset, 1)]
    bodies = {**evidence.exchanges.bodies, (left, 1): (request, stored[1])}
    twin = replace(
        evidence,
        receipts={**evidence.receipts, late.id: late.statement},
        exchanges=replace(evidence.exchanges, bodies=bodies),
    )
    with pytest.raises(ResultError, match="different numbers of rounds"):
        recompute(twin, released, None)
    summands = evidence.release.contributions
    slipped = (
        *summands,
        replace(summands[0], receipt=late.id),
        replace(summands[1], receipt=late.id),
    )
    with pytest.raises(ResultError):
        recompute(
            replace(twin, release=replace(evidence.release, contributions=slipped)), released, None
        )


def test_a_round_of_before_the_departure_does_not_slip_in(
    play: Play, monkeypatch: pytest.MonkeyPatch
):
    job, _ = run_without(play, monkeypatch, {3: "2"})
    evidence, released = evidence_of(play, job)
    assert {item.round for item in evidence.release.contributions} == {3, 4}
    # The first round asked the same; the operator kept it, and what opened its sum.
    bodies = dict(evidence.exchanges.bodies)
    for at in range(3):
        asset = play.seats[at].asset
        with play.nodes[at]._journal.write() as book:
            stored = book.reply(job, asset, 1, "1")
        assert stored is not None
        bodies[asset, 1] = (first_request(play, job), stored[1])
    instead = tuple(
        replace(item, round=1 if item.round == 3 else item.round)
        for item in evidence.release.contributions
    )
    openings = {**evidence.exchanges.opened, 1: evidence.exchanges.opened[3]}
    twin = replace(
        evidence,
        release=replace(evidence.release, contributions=instead),
        exchanges=replace(evidence.exchanges, bodies=bodies, opened=openings),
    )
    with pytest.raises(ResultError, match="neither survivor nor dropped"):
        recompute(twin, released, None)
    spoilt = Opened({**openings[1].seeds, play.seats[3].asset: bytes(32)}, openings[1].mask_keys)
    again = replace(twin.exchanges, opened={**openings, 1: spoilt})
    with pytest.raises(ResultError, match=r"committed to|published no"):
        recompute(replace(twin, exchanges=again), released, None)


def first_request(play: Play, job: str) -> bytes:
    """The question of round 1 as it went over the wire."""
    for _, _, data in play.crossed:
        start = data.find(b'{"attempt":1,"first":1,"job":"' + job.encode())
        if start >= 0 and b'"round":1,"type":"round-request/v2"}' in data:
            end = data.find(b'"type":"round-request/v2"}') + len(b'"type":"round-request/v2"}')
            return data[start:end]
    raise AssertionError("the question was not heard")
