"""Nodes that leave at any step: the sum of those who stayed, or a failure that names the missing.

The conversation is the product's own; the nodes are those of `tests.fake_nodes`, and what a node
that left says is lost on its way. `test_dropouts_market.py` has the real ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federated.plan import Question, Words
from federated.rounds import decrypt_sum
from federated.session import Completed, Failed
from federated.tasks import encode_answer, find_task, replay
from privacy import paillier
from privacy.shamir import recovery_threshold
from tests.fake_nodes import ASSETS, Bench, make_bench

STEPS = (
    "keys",
    "shares 1",
    "1",
    "survivors 1",
    "unmask 1",
    "2",
    "survivors 2",
    "unmask 2",
    "finish",
)
"""In this order, as `step_of` names them. Statistics asks two questions."""


def over(bench: Bench, stayed: Collection[str]) -> dict[str, Any]:
    """The task's own result over these parties alone, without masks and without messages."""
    task = find_task(bench.plan.task)

    def total(question: Question) -> Words:
        words = np.zeros(question.words, np.uint64)
        for asset in stayed:
            answer = task.answer(bench.plan, question, bench.tables[asset])
            words += encode_answer(question.layout, answer)
        return words

    return replay(task, bench.plan, total)


def right_or_refused(bench: Bench) -> Completed | Failed:
    """Run the job; whatever it ends with, it is never the wrong sum."""
    outcome = bench.run()
    if isinstance(outcome, Completed):
        assert set(outcome.dropped) <= set(bench.lose)
        stayed = [asset for asset in bench.nodes if asset not in outcome.dropped]
        assert set(outcome.receipts) == set(stayed)
        assert all(set(each.contributions) == set(stayed) for each in outcome.rounds)
        assert outcome.result == over(bench, stayed)
        return outcome
    assert isinstance(outcome, Failed)
    assert outcome.error is None
    assert outcome.reasons
    assert set(outcome.reasons) <= set(bench.lose)
    assert set(outcome.reasons.values()) == {"no_reply"}
    return outcome


@pytest.mark.parametrize("step", STEPS[:-1])
def test_one_that_leaves_is_not_in_the_result_and_the_others_are(step: str):
    bench = make_bench(minimum=3)
    gone = ASSETS[2]
    bench.lose = {gone: step}
    outcome = right_or_refused(bench)
    assert isinstance(outcome, Completed)
    assert outcome.dropped == {gone: "no_reply"}
    # Should it come back, it hears that the job is over for it; the others completed it.
    assert {node.finished[-1] for node in bench.nodes.values() if node.asset != gone} == {
        "completed"
    }
    assert bench.nodes[gone].finished == ["failed"]


def test_one_that_leaves_before_its_receipt_ends_the_job_by_name():
    bench = make_bench(minimum=3)
    bench.lose = {ASSETS[2]: "finish"}
    outcome = right_or_refused(bench)
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {ASSETS[2]: "no_reply"}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("minimum", [0, 4])
def test_where_all_are_needed_one_that_leaves_ends_the_job(step: str, minimum: int):
    bench = make_bench(minimum=minimum)
    bench.lose = {ASSETS[2]: step}
    outcome = right_or_refused(bench)
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {ASSETS[2]: "no_reply"}
    assert outcome.rounds == () or step not in STEPS[:5]


@pytest.mark.parametrize("later", ["1", "unmask 1", "2", "unmask 2"])
def test_two_of_four_that_leave_are_too_many(later: str):
    bench = make_bench(minimum=2)
    bench.lose = {ASSETS[0]: "1", ASSETS[3]: later}
    outcome = right_or_refused(bench)
    assert isinstance(outcome, Failed)
    assert set(outcome.reasons) == {ASSETS[0], ASSETS[3]}


def test_who_stays_is_counted_by_providers_where_the_terms_do():
    ended = []
    for gone in (0, 4):
        bench = make_bench(parties=5, minimum=4)
        assets = list(bench.nodes)
        # Four of five stay each time; without the last they belong to three.
        bench.providers = dict.fromkeys(assets[:2], "both")
        bench.lose = {assets[gone]: "1"}
        ended.append(type(right_or_refused(bench)))
    assert ended == [Completed, Failed]


def test_a_list_of_survivors_is_signed_anew_only_where_somebody_dropped_out():
    asked = []
    for lost in ({}, {ASSETS[1]: "1"}, {ASSETS[1]: "unmask 1"}):
        bench = make_bench(minimum=3)
        bench.lose = lost
        assert isinstance(right_or_refused(bench), Completed)
        asked.append([each.round for each in bench.progress if each.step == "survivors"])
    assert asked == [[], [1, 1, 1], []]


def test_only_rounds_since_the_last_departure_make_up_the_result():
    bench = make_bench(minimum=3)
    bench.lose = {ASSETS[1]: "2"}
    outcome = right_or_refused(bench)
    assert isinstance(outcome, Completed)
    # The first two were opened too, one with it and one to learn that it is gone.
    assert [each.number for each in outcome.rounds] == [3, 4]
    assert [list(each.opened.mask_keys) for each in outcome.rounds] == [[], []]
    bench = make_bench(minimum=3)
    bench.lose = {ASSETS[1]: "1"}
    outcome = right_or_refused(bench)
    assert isinstance(outcome, Completed)
    # It dealt shares and contributed nothing: the others took its masks off, and went on.
    assert [each.number for each in outcome.rounds] == [1, 2]
    assert [list(each.opened.mask_keys) for each in outcome.rounds] == [[ASSETS[1]], []]


def test_an_encrypted_sum_is_that_of_those_who_stayed():
    secret = paillier.SecretKey.generate(2048)
    bench = make_bench("encrypted_sum", minimum=3)
    bench.encryption_key = secret.public
    for node in bench.nodes.values():
        node.encryption_key = secret.public
    bench.lose = {ASSETS[1]: "1"}
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    words = decrypt_sum(outcome.rounds[0], outcome.ciphertexts or (), secret)
    stayed = [asset for asset in ASSETS if asset != ASSETS[1]]
    assert replay(find_task("encrypted_sum"), bench.plan, lambda _: words) == over(bench, stayed)


def leaving(parties: int, most: int) -> st.SearchStrategy[dict[int, str]]:
    return st.dictionaries(
        st.integers(0, parties - 1), st.sampled_from(STEPS), min_size=1, max_size=most
    )


def play(parties: int, leaves: dict[int, str]) -> None:
    enough = recovery_threshold(parties)
    bench = make_bench(parties=parties, minimum=2)
    names = list(bench.nodes)
    bench.lose = {names[at]: step for at, step in leaves.items()}
    outcome = right_or_refused(bench)
    if "finish" not in leaves.values():
        assert isinstance(outcome, Completed) == (parties - len(leaves) >= enough)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(leaving(10, 4))
def test_whoever_of_ten_leaves_the_sum_is_right_or_refused(leaves: dict[int, str]):
    play(10, leaves)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(leaving(40, 14))
def test_whoever_of_forty_leaves_the_sum_is_right_or_refused(leaves: dict[int, str]):
    play(40, leaves)


@pytest.mark.slow
def test_twelve_of_forty_may_leave_at_any_step():
    play(40, {3 * at: STEPS[at % 8] for at in range(12)})
