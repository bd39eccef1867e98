"""One job over four parties through the real Grid, ServerApp and ClientApps.

`tests.fake_nodes` has the nodes: they check no evidence, and do all the rest.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message

from federated import rounds
from federated.errors import ReceiptError, TaskError
from federated.grid import TO_SERVER, InProcessGrid
from federated.messages import (
    Contribution,
    Failure,
    FinishReply,
    KeysReply,
    KeysRequest,
    Refusal,
    RoundRequest,
    SharesRequest,
    body_digest,
    read_reply,
    read_request,
)
from federated.peers import PublicMaskKey, Use
from federated.plan import Question, Words
from federated.records import MESSAGE_TYPE, pack
from federated.rounds import RoundRecord, add_words, open_receipt
from federated.session import Completed, Failed, Refused
from federated.tasks import encode_answer, find_task, replay
from ledger.keys import SigningKey
from ledger.statements.envelope import open_
from ledger.statements.receipt import Receipt
from privacy.masking import MaskKey
from tests.fake_nodes import (
    ASSETS,
    CANARY,
    JOB,
    Bench,
    Saying,
    expect_failure,
    make_bench,
    pooled,
    spoil,
)


@pytest.fixture
def bench() -> Bench:
    return make_bench()


# --- the answer


def test_the_result_equals_the_plain_computation(bench: Bench):
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    assert outcome.result is not None
    for column in ("age", "visits"):
        values, found = pooled(bench, column), outcome.result[column]
        assert found["count"] == len(values)
        assert found["mean"] == pytest.approx(values.mean(), rel=1e-13)
        assert found["variance"] == pytest.approx(values.var(ddof=1), rel=1e-12)
    assert outcome.result["age"]["missing"] == 4


def test_two_exchanges_a_round_two_before_and_one_for_the_receipts(bench: Bench):
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    assert [record.number for record in outcome.rounds] == [1, 2]
    assert len(bench.crossed) == 2 * 4 * (2 + 2 * 2 + 1)
    assert outcome.dropped == {}
    assert [list(each.opened.mask_keys) for each in outcome.rounds] == [[], []]


def test_the_outcome_lets_a_buyer_compute_the_result_again(bench: Bench):
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    assert not _noticed(bench, outcome.rounds, outcome.result)


def test_twin_an_operator_who_adds_to_a_contribution_is_noticed(bench: Bench):
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    first = outcome.rounds[0]
    asset = ASSETS[2]
    honest = Contribution.from_bytes(first.contributions[asset])
    words = np.frombuffer(honest.words or b"", dtype="<u8").copy()
    words[0] += 1
    changed = replace(honest, words=words.tobytes()).to_bytes()
    rounds = (replace(first, contributions={**first.contributions, asset: changed}),)
    assert _noticed(bench, (*rounds, *outcome.rounds[1:]), outcome.result)
    # And the digest no longer is the one in the node's receipt.
    receipt = Receipt.from_payload(
        open_(outcome.receipts[asset], Receipt.media_type(), bench.keys[asset].verify_key)
    )
    sent = [body_digest(each.bodies[asset][1]) for each in (first, rounds[0])]
    assert receipt.contributions[0].reply == sent[0] != sent[1]


def _noticed(bench: Bench, rounds: tuple[RoundRecord, ...], result: Any) -> bool:
    """Adds the contributions again, as a buyer's client does, and compares."""
    records = iter(rounds)
    questions = []

    def total(question: Question) -> Words:
        record = next(records)
        questions.append(question == record.question)
        return add_words(record, record.open(JOB, 1))

    return replay(find_task("statistics"), bench.plan, total) != result or not all(questions)


def test_a_buyer_needs_no_flower_for_it():
    names = "federated.rounds, federated.messages, federated.tasks"
    code = f"import sys, {names}; sys.exit('flwr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_receipts_name_exactly_what_crossed(bench: Bench):
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    assert set(outcome.receipts) == set(ASSETS)
    for asset, data in outcome.receipts.items():
        payload = open_(data, Receipt.media_type(), bench.keys[asset].verify_key)
        listed = Receipt.from_payload(payload).contributions
        assert [item.reply for item in listed] == [
            body_digest(r.bodies[asset][1]) for r in outcome.rounds
        ]
        assert [item.request for item in listed] == [body_digest(r.request) for r in outcome.rounds]


def test_a_receipt_of_other_rounds_is_refused(bench: Bench):
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    asset, rounds = ASSETS[1], outcome.rounds
    data, key = outcome.receipts[asset], bench.keys[asset].verify_key
    assert open_receipt(data, key, asset=asset, job=JOB, rounds=rounds).asset == asset
    twins: list[dict[str, Any]] = [
        {"asset": ASSETS[2]},
        {"job": "job:" + "9" * 64},
        {"rounds": (*rounds, replace(rounds[1], number=3))},
        {"rounds": rounds[::-1]},
        {"rounds": (replace(rounds[0], request=b"other"), rounds[1])},
        {"rounds": (replace(rounds[0], contributions={}), rounds[1])},
    ]
    for change in twins:
        with pytest.raises(ReceiptError, match="differs"):
            open_receipt(data, key, **{"asset": asset, "job": JOB, "rounds": rounds, **change})
    with pytest.raises(ReceiptError):
        open_receipt(data[:-1], key, asset=asset, job=JOB, rounds=rounds)


def test_progress_names_each_node_in_each_exchange(bench: Bench):
    bench.run()
    steps = [(each.round, each.step, each.asset) for each in bench.progress]
    exchanges = [(0, "keys"), (0, "shares")]
    for number, question in ((1, "moments"), (2, "spread")):
        exchanges += [(number, step) for step in (question, "unmask")]
    exchanges.append((2, "finish"))
    assert steps == [(*exchange, asset) for exchange in exchanges for asset in ASSETS]
    assert {each.state for each in bench.progress} == {"answered"}


def test_all_nodes_compute_at_the_same_time(bench: Bench):
    barrier = threading.Barrier(4)

    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        barrier.wait(10)
        return ask(body)

    bench.services = {asset: Saying(say, node) for asset, node in bench.nodes.items()}
    assert isinstance(bench.run(), Completed)


# --- what the operator sees


def _contributions(bench: Bench) -> Iterator[bytes]:
    for direction, _, data in bench.crossed:
        if direction == TO_SERVER and b"contribution/v4" in data:
            yield data


def _plain_words(bench: Bench, asset: str) -> Words:
    task = find_task("statistics")
    question = task.question(bench.plan, "moments", {})
    return encode_answer(question.layout, task.answer(bench.plan, question, bench.tables[asset]))


def _shows_the_plain_words(bench: Bench) -> bool:
    """Tells whether any node's own numbers are in a contribution that the operator got."""
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    assert len(list(_contributions(bench))) == 8
    found = False
    for asset, contribution in outcome.rounds[0].open(JOB, 1).items():
        has = np.frombuffer(contribution.words or b"", dtype="<u8")
        assert any(outcome.rounds[0].contributions[asset] in data for data in _contributions(bench))
        found |= bool((has == _plain_words(bench, asset)).any())
    return found


def test_no_contribution_that_the_operator_sees_is_the_plain_one(bench: Bench):
    assert not _shows_the_plain_words(bench)


def test_twin_without_masks_it_is(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    for node in bench.nodes.values():
        node.masked = False
    # There is nothing to take off.
    monkeypatch.setattr(
        rounds, "correction_of", lambda record, _: np.zeros(record.question.words, np.uint64)
    )
    assert _shows_the_plain_words(bench)


def test_the_same_question_is_masked_anew_in_another_attempt(bench: Bench):
    seen = []
    for attempt in (1, 2):
        for node in bench.nodes.values():
            node.sent.clear()
        outcome = bench.run(attempt)
        assert isinstance(outcome, Completed)
        opened = outcome.rounds[0].open(JOB, attempt)
        seen.append([np.frombuffer(opened[asset].words or b"", dtype="<u8") for asset in ASSETS])
    assert not any((one == other).any() for one, other in zip(*seen, strict=True))


# --- nodes that misbehave


def test_a_node_that_says_the_same_through_the_hook_is_accepted(bench: Bench):
    spoil(bench, ASSETS[1], lambda contribution: contribution)
    assert isinstance(bench.run(), Completed)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"asset": ASSETS[2]}, "wrong_asset"),
        ({"job": "job:" + "9" * 64}, "wrong_job"),
        ({"attempt": 2}, "wrong_attempt"),
        ({"round": 7}, "wrong_round"),
        ({"words": bytes(8)}, "wrong_length"),
        ({"words": None, "ciphertexts": (b"x",)}, "wrong_form"),
        ({"next_mask_key": b"{}"}, "bad_mask_key"),
    ],
)
def test_a_contribution_other_than_asked_for_is_refused(
    bench: Bench, change: dict[str, Any], reason: str
):
    spoil(bench, ASSETS[1], lambda contribution: replace(contribution, **change))
    assert expect_failure(bench, {ASSETS[1]: reason}).rounds == ()


def test_an_old_contribution_sent_again_is_refused(bench: Bench):
    kept: list[Contribution] = []

    def repeat(contribution: Contribution) -> Contribution:
        kept.append(contribution)
        return kept[0]

    spoil(bench, ASSETS[1], repeat)
    assert len(expect_failure(bench, {ASSETS[1]: "wrong_round"}).rounds) == 1


def test_a_node_that_repeats_another_is_refused(bench: Bench):
    overheard: list[bytes] = []
    ready = threading.Event()

    def first(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        reply = ask(body)
        if isinstance(read_reply(reply), Contribution):
            overheard.append(reply)
            ready.set()
        return reply

    def second(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        reply = ask(body)
        if isinstance(read_reply(reply), Contribution):
            assert ready.wait(10)
            return overheard[0]
        return reply

    bench.services[ASSETS[0]] = Saying(first, bench.nodes[ASSETS[0]])
    bench.services[ASSETS[1]] = Saying(second, bench.nodes[ASSETS[1]])
    expect_failure(bench, {ASSETS[1]: "wrong_asset"})


class _Doubling(InProcessGrid):
    """Delivers the answer of one node twice."""

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        replies = super().send_and_receive(messages, timeout=timeout)
        return [*replies, *(r for r in replies if r.metadata.src_node_id == 2)]


def test_a_second_answer_from_one_node_is_refused(bench: Bench):
    bench.grid = _Doubling
    outcome = bench.run()
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {ASSETS[1]: "duplicate"}


class _Breaking(InProcessGrid):
    """Has an error of Flower's own in place of one node's answers."""

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        kept = list(messages)
        replies = super().send_and_receive(kept, timeout=timeout)
        for at, sent in enumerate(kept):
            if sent.metadata.dst_node_id == 2:
                replies[at] = Message(Error(0, f"row 0 has {CANARY}"), reply_to=sent)
        return replies


def test_an_error_of_flowers_own_is_named_without_its_text(bench: Bench):
    bench.grid = _Breaking
    outcome = bench.run()
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {ASSETS[1]: "node_error"}
    assert str(CANARY) not in repr(outcome)


class _Stray(InProcessGrid):
    """Delivers messages of a node that is not in the cohort."""

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        replies = super().send_and_receive(messages, timeout=timeout)
        stray = self.create_message(pack(b"{}"), MESSAGE_TYPE, 99, "1")
        return [Message(pack(b"{}"), reply_to=stray), *replies]


def test_what_a_stranger_sends_changes_nothing(bench: Bench):
    bench.grid = _Stray
    assert isinstance(bench.run(), Completed)


@pytest.mark.parametrize("at", [0, 10, -1])
def test_a_damaged_reply_is_refused(bench: Bench, at: int):
    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        reply = bytearray(ask(body))
        reply[at] ^= 0x80
        return bytes(reply)

    bench.services[ASSETS[3]] = Saying(say, bench.nodes[ASSETS[3]])
    expect_failure(bench, {ASSETS[3]: "malformed"})


def test_a_changed_word_is_found_by_its_receipt_or_by_the_sum(bench: Bench):
    def flip(contribution: Contribution) -> Contribution:
        words = bytearray(contribution.words or b"")
        words[0] ^= 1
        return replace(contribution, words=bytes(words))

    spoil(bench, ASSETS[1], flip)
    outcome = bench.run()
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {ASSETS[1]: "bad_receipt"}


def test_a_receipt_in_another_name_is_refused(bench: Bench):
    stranger = SigningKey.generate("node")

    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        reply = read_reply(ask(body))
        if isinstance(reply, FinishReply):
            payload = open_(reply.receipt, Receipt.media_type(), bench.keys[ASSETS[1]].verify_key)
            return FinishReply(Receipt.from_payload(payload).sign(stranger)).to_bytes()
        return reply.to_bytes()

    bench.services[ASSETS[1]] = Saying(say, bench.nodes[ASSETS[1]])
    outcome = bench.run()
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {ASSETS[1]: "bad_receipt"}


def test_a_mask_key_of_another_round_is_refused_before_it_is_passed_on(bench: Bench):
    node = bench.nodes[ASSETS[1]]

    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        request = read_request(body)
        if isinstance(request, KeysRequest):
            return KeysReply(node.asset, node.new_key(request, 2)).to_bytes()
        return ask(body)

    bench.services[ASSETS[1]] = Saying(say, node)
    expect_failure(bench, {ASSETS[1]: "bad_mask_key"})


@pytest.mark.parametrize("step", [SharesRequest, RoundRequest])
def test_an_operator_who_swaps_a_mask_key_is_refused_by_the_nodes(bench: Bench, step: type):
    impostor = SigningKey.generate("node")
    node = bench.nodes[ASSETS[0]]

    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        request = read_request(body)
        if isinstance(request, step):
            public = MaskKey.generate().public
            use = Use(JOB, 1, request.round, ASSETS)
            forged = PublicMaskKey(ASSETS[2], use, public, MaskKey.generate().public)
            keys = {**request.mask_keys, ASSETS[2]: forged.sign(impostor)}
            return ask(replace(request, mask_keys=keys).to_bytes())
        return ask(body)

    bench.services[ASSETS[0]] = Saying(say, node)
    expect_failure(bench, {ASSETS[0]: "internal"})
    assert node.sent == []


def test_a_node_that_raises_is_named_with_a_fixed_word(bench: Bench):
    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        if not isinstance(read_request(body), RoundRequest):
            return ask(body)
        raise ValueError(f"row 0 has {CANARY}")

    bench.services[ASSETS[1]] = Saying(say, bench.nodes[ASSETS[1]])
    outcome = expect_failure(bench, {ASSETS[1]: "internal"})
    assert str(CANARY) not in repr(outcome)
    assert not any(str(CANARY).encode() in data for _, _, data in bench.crossed)
    assert [each.asset for each in bench.progress if each.state == "failed"] == [ASSETS[1]]


def test_a_node_that_fails_is_named_with_its_word(bench: Bench):
    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        if isinstance(read_request(body), RoundRequest):
            return Failure(JOB, ASSETS[1], "out_of_bounds").to_bytes()
        return ask(body)

    bench.services[ASSETS[1]] = Saying(say, bench.nodes[ASSETS[1]])
    expect_failure(bench, {ASSETS[1]: "out_of_bounds"})


def test_a_node_that_does_not_answer_in_time_is_named(bench: Bench):
    release = threading.Event()

    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        release.wait(10)
        return ask(body)

    bench.services[ASSETS[1]] = Saying(say, bench.nodes[ASSETS[1]])
    bench.timeout = 0.3
    expect_failure(bench, {ASSETS[1]: "no_reply"})
    release.set()


def test_a_refusal_is_reported_with_its_receipt_and_the_others_are_released(bench: Bench):
    def say(body: bytes, _ask: Callable[[bytes], bytes]) -> bytes:
        assert isinstance(read_request(body), KeysRequest)
        return Refusal(JOB, ASSETS[1], "quota_used_up", b"receipt").to_bytes()

    bench.services[ASSETS[1]] = Saying(say, bench.nodes[ASSETS[1]])
    outcome = bench.run()
    assert isinstance(outcome, Refused)
    assert outcome.reasons == {ASSETS[1]: "quota_used_up"}
    assert outcome.receipts[ASSETS[1]] == b"receipt"
    assert set(outcome.receipts) == set(ASSETS)
    assert outcome.failures == {}
    for asset in set(ASSETS) - {ASSETS[1]}:
        assert bench.nodes[asset].finished == ["failed"]
    assert not list(_contributions(bench))


def test_a_refusal_in_the_name_of_another_is_a_failure(bench: Bench):
    refusal = Refusal(JOB, ASSETS[2], "revoked", None).to_bytes()
    bench.services[ASSETS[1]] = Saying(lambda *_: refusal, bench.nodes[ASSETS[1]])
    expect_failure(bench, {ASSETS[1]: "unexpected"})


def test_a_task_that_cannot_work_asks_no_node(bench: Bench):
    bench.plan = replace(bench.plan, parameters={"columns": ["weight"], "rows": "all"})
    outcome = bench.run()
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, TaskError)
    assert outcome.error.reason == "unknown_column"
    assert "weight" in str(outcome.error)
    assert bench.crossed == []


def test_a_sum_that_cannot_be_one_fails_the_job_and_releases_all(bench: Bench):
    bench.nodes[ASSETS[1]].masked = False
    outcome = bench.run()
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, TaskError)
    assert outcome.error.reason == "out_of_bounds"
    assert {tuple(node.finished) for node in bench.nodes.values()} == {("failed",)}
