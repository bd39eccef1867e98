"""A joint job in a real market: two providers' nodes intersect, past an operator who carries it."""

from __future__ import annotations

import json
import logging
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federated.channel import Channel
from federated.messages import (
    Failure,
    FinishReply,
    FinishRequest,
    KeysReply,
    RelayReply,
    RelayRequest,
    SharesRequest,
)
from federated.peers import Use
from federated.tasks.intersection import IntersectionTask
from federated.tasks.joint import Part
from ledger.encoding import b64decode, b64encode, canonical, sha256_text
from ledger.statements import Job, Receipt, envelope, read
from marketplace.gathering import gather
from marketplace.recompute import ResultError, read_exchanges, recompute
from privacy import sealed_box
from tests.joint import csv_text
from tests.searcher import Searcher, folder_bytes
from tests.stage import WATCH, Play, open_stage, terms, word

DAY = 86_400_000
NORTH = csv_text([{"id": f"11010{at:013}", "cents": 100 * at} for at in range(40)])
SOUTH = csv_text([{"id": f"11010{at:013} ", "cents": 7 * at} for at in range(25, 60)])
TABLES = {"north": NORTH, "south": SOUTH}
COMMON = 15
MATCH = {
    "columns": {"id": ["strip"]},
    "minimum_size": 10,
    "minimum_intersection": 5,
    "monthly": 999,
}
AGREED = terms(tasks=("intersection",), uses=999)
SIZES = {"receiver": 40, "sender": 35}


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    folder = tmp_path_factory.mktemp("registers")
    with open_stage(folder, TABLES, preparation={"match": MATCH}, agreed=AGREED) as play:
        for node in play.nodes:
            node._limits = replace(node._limits, unfinished=999)
        yield play


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Play]:
    match = MATCH | getattr(request, "param", {})
    with open_stage(tmp_path, TABLES, preparation={"match": match}, agreed=AGREED) as play:
        yield play


def lists(play: Play, job: str) -> list[Path]:
    name = f"{job.partition(':')[2]}.csv"
    folders = [node._log._memory.parent for node in play.nodes]
    return [folder / "results" / name for folder in folders]


def test_the_researcher_gets_the_size_and_checks_it(play: Play):
    job = play.run("intersection", outcome="size")
    assert play.researcher.result(job) == {"size": COMMON, "sizes": SIZES}
    assert not any(path.exists() for path in lists(play, job))


def test_a_list_of_rows_stays_at_the_node_that_learned_it(play: Play):
    job = play.run("intersection", outcome="one")
    assert play.researcher.result(job)["size"] == COMMON
    north, south = lists(play, job)
    assert not south.exists()
    assert stat.S_IMODE(north.stat().st_mode) == 0o600
    found = north.read_text().splitlines()
    assert found[:2] == ["line,id", f"27,11010{25:013}"]
    assert len(found) == COMMON + 1


def test_both_learn_where_that_is_asked_for(play: Play):
    job = play.run("intersection", outcome="both", receiver="second")
    assert [len(path.read_text().splitlines()) for path in lists(play, job)] == [16, 16]


def test_a_sum_is_taken_over_what_is_in_common(play: Play):
    job = play.run("intersection", outcome="sum", value="cents")
    assert play.researcher.result(job)["sum"] == sum(7 * at for at in range(25, 40))


def test_nothing_of_an_identifier_leaves_a_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG)
    assert overheard(tmp_path / "sealed", caplog) == set()
    # The twin: parcels that are only packed up, and names that are sent as they are.
    monkeypatch.setattr(sealed_box, "seal", lambda _n, plain, *_: plain)
    monkeypatch.setattr(sealed_box, "open_", lambda _n, box, *_: box)
    monkeypatch.setattr(IntersectionTask, "take_part", _loud)
    assert overheard(tmp_path / "open", caplog) != set()


def _loud(self: Any, plan: Any, place: Any, rows: Any) -> Any:
    del self
    (peer,) = [each.asset_id for each in plan.cohort if each.asset_id != place.asset]
    yield {peer: "\n".join(rows.texts("id", "all")).encode()}
    return Part({"size": COMMON, "sizes": SIZES})


def overheard(folder: Path, caplog: pytest.LogCaptureFixture) -> set[str]:
    folder.mkdir()
    searcher = Searcher()
    with open_stage(folder, TABLES, preparation={"match": MATCH}, agreed=AGREED) as play:
        job = play.run("intersection", outcome="both")
        assert play.researcher.result(job)["size"] == COMMON
        for text in (NORTH, SOUTH):
            for line in text.splitlines()[1:]:
                searcher._add(line.split(",")[0].strip().encode(), "identifier")
                searcher._add(b64encode(line.split(",")[0].strip().encode()).encode(), "base64")
    said = [data for _, _, data in play.crossed] + [data for _, data in play.spoken]
    said += [record.getMessage().encode() for record in caplog.records]
    return searcher.found(said + folder_bytes(folder / "market" / "service"))


# --- what the ledger and the buyer see


def test_every_round_of_each_node_is_receipted(play: Play):
    job = play.run("intersection")
    history = play.market.app.state.context.log.history
    receipts = [each.statement for each in history.completed[job]]
    assert [len(each.contributions) for each in receipts if isinstance(each, Receipt)] == [5, 5]


def recomputed(play: Play, job: str, released: Any, exchanges: Any) -> Any:
    """What the buyer's client says to these, with a release that fits the document."""
    _, evidence = gather(play.researcher.call, play.researcher.log, job)
    release = replace(evidence.release, result=sha256_text(canonical(released)))
    said = replace(evidence, release=release, exchanges=read_exchanges(exchanges, []))
    return recompute(said, released, None)


def test_an_operator_who_changes_result_or_report_is_noticed(play: Play):
    job = play.run("intersection")
    exchanges = play.researcher.call("GET", f"/jobs/{job}/contributions")
    true = {"size": COMMON, "sizes": SIZES}
    false = {**true, "size": COMMON + 1}
    assert recomputed(play, job, true, exchanges) == true
    with pytest.raises(ResultError, match="not that of the contributions"):
        recomputed(play, job, false, exchanges)
    for item in exchanges:
        if item["round"] == 5:
            reply = RelayReply.from_bytes(b64decode(item["reply"]))
            item["reply"] = b64encode(replace(reply, report=canonical(false)).to_bytes())
    with pytest.raises(ResultError, match="round 5 differs from what a node receipted"):
        recomputed(play, job, false, exchanges)
    with pytest.raises(ResultError, match="keeps back round 5"):
        recomputed(play, job, true, [item for item in exchanges if item["round"] < 5])


# --- limits


@pytest.mark.parametrize("fresh", [{"monthly": 2}], indirect=True)
def test_a_guesser_is_stopped_by_the_month_and_seen_in_the_ledger(fresh: Play):
    for _ in range(2):
        fresh.run("intersection")
    third = fresh.job("intersection", parameters={})
    fresh.market.decide()
    view = fresh.stage.wait(third)
    assert (view["state"], view["error"]["reason"]) == ("refused", "quota_used_up")
    history = fresh.market.app.state.context.log.history
    asked = [each for each in history.by_id.values() if each.statement.kind == "job"]
    refused = [
        each.statement
        for each in history.by_id.values()
        if each.statement.kind == "receipt" and each.statement.state == "refused"
    ]
    assert len(asked) == 3
    assert {each.reason for each in refused} == {"quota_used_up"}
    # A month later there is room again.
    fresh.clock.advance(31 * DAY)
    fresh.run("intersection")


@pytest.mark.parametrize("fresh", [{"monthly": 0}], indirect=True)
def test_an_agreement_for_no_joint_job_permits_none_and_opens_nothing(fresh: Play):
    job = fresh.job("intersection", parameters={})
    with WATCH.watching(fresh.files) as opened:
        fresh.market.decide()
        view = fresh.stage.wait(job)
    assert (view["state"], opened) == ("refused", [])


@pytest.mark.parametrize("fresh", [{"minimum_intersection": 16}], indirect=True)
def test_too_few_in_common_tell_nothing_but_that(fresh: Play):
    job = fresh.job("intersection", parameters={"outcome": "both"})
    fresh.market.decide()
    view = fresh.stage.wait(job)
    assert (view["state"], view["error"]["reason"]) == ("failed", "too_few")
    assert not any(path.exists() for path in lists(fresh, job))
    # As a number of its own: the message names assets, whose ids have digits.
    assert not re.search(rf"\b{COMMON}\b", json.dumps(view["error"]))


# --- by hand, the operator's own checks off


class Carrier:
    """A relay by hand over two real nodes, as honest as the test lets it be."""

    def __init__(self, play: Play, **parameters: Any) -> None:
        self.play = play
        self.job = play.job("intersection", parameters=parameters)
        self.grants = play.grant_all(self.job)
        self.assets = [seat.asset for seat in play.seats]
        self.number = 0
        self.keys: dict[str, bytes] = {}
        self.parcels: dict[str, dict[str, bytes]] = {asset: {} for asset in self.assets}

    def begin(self) -> Carrier:
        for at, asset in enumerate(self.assets):
            request = self.play.keys_request(self.job, grant=self.grants[asset])
            reply = self.play.ask(at, request)
            assert isinstance(reply, KeysReply), word(reply)
            self.keys[asset] = reply.mask_key
        return self

    def request(self, asset: str, **changes: Any) -> RelayRequest:
        keys = self.keys if self.number == 1 else {}
        made = RelayRequest(self.job, 1, self.number, keys, self.parcels[asset])
        return replace(made, **changes)

    def carry(self) -> dict[str, RelayReply]:
        self.number += 1
        replies = {}
        for at, asset in enumerate(self.assets):
            reply = self.play.ask(at, self.request(asset))
            assert isinstance(reply, RelayReply), word(reply)
            replies[asset] = reply
        self.parcels = {
            asset: {
                sender: reply.parcels[asset]
                for sender, reply in replies.items()
                if asset in reply.parcels
            }
            for asset in self.assets
        }
        return replies

    def after(self, rounds: int) -> Carrier:
        for _ in range(rounds):
            self.carry()
        self.number += 1
        return self


@pytest.fixture(scope="module", name="lenient")
def _lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    folder = tmp_path_factory.mktemp("lenient")
    with (
        open_stage(folder, TABLES, preparation={"match": MATCH}, agreed=AGREED) as play,
        play.market.insecure_operator(),
    ):
        for node in play.nodes:
            node._limits = replace(node._limits, unfinished=999)
        yield play


def test_by_hand_the_nodes_come_to_the_same(lenient: Play):
    carrier = Carrier(lenient).begin()
    for _ in range(4):
        assert all(reply.report is None for reply in carrier.carry().values())
    reports = [json.loads(reply.report or b"") for reply in carrier.carry().values()]
    assert reports == [{"size": COMMON, "sizes": SIZES}] * 2
    for at in range(2):
        reply = lenient.ask(at, FinishRequest(carrier.job, 1, 5, "completed"))
        assert isinstance(reply, FinishReply)
        receipt = read(reply.receipt).statement
        assert isinstance(receipt, Receipt)
        assert (receipt.state, len(receipt.contributions), receipt.rows) == (
            "completed",
            5,
            (40, 35)[at],
        )


def test_the_same_request_gets_the_same_bytes_and_another_one_is_refused(lenient: Play):
    carrier = Carrier(lenient).begin().after(1)
    asset = carrier.assets[0]
    first = lenient.tell(0, carrier.request(asset))
    assert lenient.tell(0, carrier.request(asset)) == first
    reply = lenient.ask(0, carrier.request(asset, parcels={}))
    assert word(reply) == "grant_mismatch"


def changed(carrier: Carrier, asset: str) -> dict[str, bytes]:
    return {peer: box[:-1] + bytes([box[-1] ^ 1]) for peer, box in carrier.parcels[asset].items()}


def returned(carrier: Carrier, asset: str) -> dict[str, bytes]:
    """What this node sent to the other, given back to it."""
    (peer,) = set(carrier.assets) - {asset}
    return {peer: carrier.parcels[peer][asset]}


def of_another_job(carrier: Carrier, asset: str) -> dict[str, bytes]:
    return dict(Carrier(carrier.play).begin().after(1).parcels[asset])


@pytest.mark.parametrize("forged", [changed, returned, of_another_job])
def test_a_relay_that_exchanges_parcels_is_refused_and_receipted(lenient: Play, forged: Any):
    carrier = Carrier(lenient).begin().after(1)
    asset = carrier.assets[0]
    reply = lenient.ask(0, carrier.request(asset, parcels=forged(carrier, asset)))
    assert word(reply) == "not_proven"
    # Something had left before: the account says so, and the use is not silently given back.
    assert lenient.receipt(0, reply).state == "failed"


def test_a_relay_that_repeats_an_earlier_rounds_parcel_is_refused(lenient: Play):
    carrier = Carrier(lenient).begin()
    carrier.carry()
    old = dict(carrier.parcels[carrier.assets[0]])
    carrier.carry()
    carrier.number += 1
    reply = lenient.ask(0, carrier.request(carrier.assets[0], parcels=old))
    assert word(reply) == "not_proven"


def test_an_operator_who_takes_part_with_a_key_of_its_own_is_refused(
    lenient: Play, monkeypatch: pytest.MonkeyPatch
):
    """It would mask guesses, and learn which of them the node has."""
    carrier = Carrier(lenient).begin()
    carrier.number, (victim, other) = 1, carrier.assets
    forged = {**carrier.keys, other: posing(carrier, other)}
    with WATCH.watching(lenient.files) as opened:
        reply = lenient.ask(0, carrier.request(victim, keys=forged))
    assert (word(reply), opened) == ("not_proven", [])
    # The twin: a node that takes any key goes on with the operator.
    carrier = Carrier(lenient).begin()
    carrier.number = 1
    forged = {**carrier.keys, other: posing(carrier, other)}
    monkeypatch.setattr(
        Channel,
        "meet",
        lambda self, keys, _: self.peers.update(
            {peer: _public(signed) for peer, signed in keys.items() if peer != self.asset}
        ),
    )
    assert isinstance(lenient.ask(0, carrier.request(victim, keys=forged)), RelayReply)


def posing(carrier: Carrier, as_asset: str) -> bytes:
    """A channel key in a node's name, signed by the operator."""
    context = carrier.play.market.app.state.context
    job = context.log.history.get(carrier.job, Job)
    return Channel.fresh(Use(carrier.job, 1, 1, job.assets), as_asset, context.operator_key).signed


def _public(signed: bytes) -> bytes:
    return b64decode(envelope.raw_open(signed).payload["public"])


@pytest.mark.parametrize(
    "changes",
    [{"number": 2}, {"number": 3}, {"keys": {}}],
)
def test_a_round_out_of_turn_or_without_keys_is_refused(lenient: Play, changes: dict[str, Any]):
    carrier = Carrier(lenient).begin()
    carrier.number = changes.pop("number", 1)
    reply = lenient.ask(0, carrier.request(carrier.assets[0], **changes))
    assert word(reply) == "grant_mismatch"


def test_after_a_round_that_failed_the_same_round_is_not_tried_again(lenient: Play):
    carrier = Carrier(lenient).begin().after(1)
    asset = carrier.assets[0]
    kept_back = lenient.ask(0, carrier.request(asset, parcels={}))
    assert word(kept_back) == "task_error"
    # What was kept back comes now: too late.
    assert word(lenient.ask(0, carrier.request(asset))) == "task_error"


def test_a_second_attempt_is_refused(lenient: Play):
    carrier = Carrier(lenient).begin()
    asset = carrier.assets[0]
    again = lenient.keys_request(carrier.job, grant=carrier.grants[asset], attempt=2)
    assert word(lenient.ask(0, again)) == "grant_mismatch"


def test_a_joint_job_is_not_asked_as_a_sum_is(lenient: Play):
    carrier = Carrier(lenient).begin()
    reply = lenient.ask(0, SharesRequest(carrier.job, 1, 1, carrier.keys))
    assert word(reply) == "grant_mismatch"


def test_a_node_that_restarted_has_forgotten_and_blames_nobody(fresh: Play):
    with fresh.market.insecure_operator():
        carrier = Carrier(fresh).begin().after(1)
        node = fresh.reopened(0)
        request = carrier.request(carrier.assets[0])
        reply = node.handle(request.to_bytes(), fresh.beside(request))
        assert Failure.from_bytes(reply).reason == "restarted"


def test_a_crash_between_a_list_and_its_reply_leaves_the_list_and_no_completed_job(
    fresh: Play, monkeypatch: pytest.MonkeyPatch
):
    with fresh.market.insecure_operator():
        carrier = Carrier(fresh, outcome="one").begin().after(4)
        asset, node = carrier.assets[0], fresh.nodes[0]

        def dies(*_: Any) -> bytes:
            raise SystemExit

        monkeypatch.setattr(node, "_record", dies)
        with pytest.raises(SystemExit):
            fresh.ask(0, carrier.request(asset))
        north, _ = lists(fresh, carrier.job)
        assert len(north.read_text().splitlines()) == COMMON + 1
        again = fresh.reopened(0)
        request = carrier.request(asset)
        reply = again.handle(request.to_bytes(), fresh.beside(request))
        assert Failure.from_bytes(reply).reason == "restarted"
        end = FinishRequest(carrier.job, 1, 5, "completed")
        said = FinishReply.from_bytes(again.handle(end.to_bytes(), fresh.beside(end)))
        receipt = read(said.receipt).statement
        assert isinstance(receipt, Receipt)
        # What was sent before is accounted for, and it is no completed use.
        assert (receipt.state, len(receipt.contributions)) == ("failed", 4)


def test_a_revoked_grant_stops_the_talk_in_the_middle(fresh: Play):
    with fresh.market.insecure_operator():
        carrier = Carrier(fresh).begin().after(2)
        asset = carrier.assets[0]
        fresh.seats[0].client.revoke(carrier.grants[asset], "stop")
        reply = fresh.ask(0, carrier.request(asset))
        assert word(reply) == "revoked"
        assert fresh.receipt(0, reply).state == "failed"
