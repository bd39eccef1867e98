"""An encrypted job: nodes mask and encrypt, the coordinator adds, the researcher alone opens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from federated.errors import TaskError
from federated.messages import Contribution
from federated.rounds import read_ciphertexts
from federated.session import Completed
from federated.tasks import decode_aggregate, find_task, replay
from privacy import paillier
from tests.fake_nodes import ASSETS, JOB, expect_failure, make_bench, pooled, spoil


@pytest.fixture(scope="module")
def researcher() -> paillier.SecretKey:
    return paillier.SecretKey.generate(2048)


def test_an_encrypted_sum_is_opened_by_the_researcher_alone(researcher: paillier.SecretKey):
    bench = make_bench("encrypted_sum")
    bench.encryption_key = researcher.public
    for node in bench.nodes.values():
        node.encryption_key = researcher.public
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    assert outcome.result is None
    assert outcome.ciphertexts is not None
    sums = read_ciphertexts(outcome.ciphertexts, researcher.public)
    # One more than contributed: what takes the masks off was added too.
    words = paillier.decrypt_words(researcher, sums, parties=5)
    result = replay(find_task("encrypted_sum"), bench.plan, lambda _: words)
    assert result["sums"]["visits"] == int(pooled(bench, "visits").sum())
    assert result["sums"]["age"] == pytest.approx(pooled(bench, "age").sum(), rel=1e-13)
    # Even the key's holder sees noise in a single contribution: nodes mask before they encrypt.
    lone = outcome.rounds[0].open(JOB, 1)[ASSETS[0]].ciphertexts or ()
    opened = paillier.decrypt_words(
        researcher, read_ciphertexts(lone, researcher.public), parties=1
    )
    with pytest.raises(TaskError):
        decode_aggregate(outcome.rounds[0].question.layout, opened)


def test_an_encrypted_task_without_a_key_is_refused_before_any_node_is_asked():
    bench = make_bench("encrypted_sum")
    with pytest.raises(TaskError, match="needs an encryption key"):
        bench.run()
    assert bench.crossed == []


@pytest.mark.parametrize("damage", ["words", "short", "zero"])
def test_what_is_no_ciphertext_is_refused_by_name(researcher: paillier.SecretKey, damage: str):
    bench = make_bench("encrypted_sum")
    bench.encryption_key = researcher.public
    for node in bench.nodes.values():
        node.encryption_key = researcher.public
    width = researcher.public.ciphertext_bytes

    def damaged(contribution: Contribution) -> Contribution:
        parts = contribution.ciphertexts or ()
        if damage == "words":
            return replace(contribution, ciphertexts=None, words=bytes(8 * len(parts)))
        bad = parts[0][:-1] if damage == "short" else bytes(width)
        return replace(contribution, ciphertexts=(bad, *parts[1:]))

    spoil(bench, ASSETS[1], damaged)
    expect_failure(bench, {ASSETS[1]: "wrong_form"})
