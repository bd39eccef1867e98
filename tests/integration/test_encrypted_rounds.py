"""An encrypted job: nodes mask and encrypt, the coordinator adds, the researcher alone opens."""

from __future__ import annotations

from dataclasses import replace

import phe
import pytest

from federated.errors import TaskError
from federated.messages import Contribution
from federated.rounds import decrypt_sum
from federated.session import Completed
from federated.tasks import decode_aggregate, find_task, replay
from privacy import paillier
from privacy.errors import CiphertextError, VectorError
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
    words = decrypt_sum(outcome.rounds[0], outcome.ciphertexts, researcher)
    result = replay(find_task("encrypted_sum"), bench.plan, lambda _: words)
    assert result["sums"]["visits"] == int(pooled(bench, "visits").sum())
    assert result["sums"]["age"] == pytest.approx(pooled(bench, "age").sum(), rel=1e-13)
    # Even the key's holder sees noise in a single contribution: nodes mask before they encrypt.
    record = outcome.rounds[0]
    lone = record.open(JOB, 1, researcher.public)[ASSETS[0]].ciphertexts or ()
    # All words of the question share one ciphertext.
    assert len(lone) == 1 < record.question.words
    opened = decrypt_sum(record, lone, researcher)
    with pytest.raises(TaskError):
        decode_aggregate(outcome.rounds[0].question.layout, opened)


def test_a_key_from_elsewhere_is_encrypted_to_with_randomness_of_full_length():
    while True:
        _, theirs = phe.generate_paillier_keypair(n_length=2048)
        secret = paillier.SecretKey.from_primes(int(theirs.p), int(theirs.q))
        if not secret.public.blum:
            break
    bench = make_bench("encrypted_sum")
    bench.encryption_key = secret.public
    for node in bench.nodes.values():
        node.encryption_key = secret.public
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    words = decrypt_sum(outcome.rounds[0], outcome.ciphertexts or (), secret)
    result = replay(find_task("encrypted_sum"), bench.plan, lambda _: words)
    assert result["sums"]["visits"] == int(pooled(bench, "visits").sum())
    # What the nodes and the operator made, plain phe opens, down to the slots.
    record = outcome.rounds[0]
    opened = [
        int(theirs.raw_decrypt(int.from_bytes(each, "big"))) for each in outcome.ciphertexts or ()
    ]
    assert (record.packing.unpack(secret.public, opened, record.question.words) == words).all()


def test_a_sum_that_no_contributions_can_have_is_refused(researcher: paillier.SecretKey):
    bench = make_bench("encrypted_sum")
    bench.encryption_key = researcher.public
    for node in bench.nodes.values():
        node.encryption_key = researcher.public
    outcome = bench.run()
    assert isinstance(outcome, Completed)
    record, total = outcome.rounds[0], outcome.ciphertexts or ()
    decrypt_sum(record, total, researcher)
    # Times 2^slot, each word stands a slot higher, and the last one above all words.
    number, n = int.from_bytes(total[0], "big"), researcher.public.n
    moved = pow(number, 1 << record.packing.slot_bits, n * n).to_bytes(len(total[0]), "big")
    with pytest.raises(CiphertextError, match="more than the sum"):
        decrypt_sum(record, (moved, *total[1:]), researcher)
    with pytest.raises(VectorError):
        decrypt_sum(record, (*total, total[0]), researcher)
    with pytest.raises(CiphertextError, match="another length"):
        decrypt_sum(record, (total[0][1:], *total[1:]), researcher)


def test_an_encrypted_task_without_a_key_is_refused_before_any_node_is_asked():
    bench = make_bench("encrypted_sum")
    with pytest.raises(TaskError, match="needs an encryption key"):
        bench.run()
    assert bench.crossed == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("words", "wrong_form"),
        ("short", "wrong_form"),
        ("zero", "wrong_form"),
        ("more", "wrong_length"),
    ],
)
def test_what_is_no_ciphertext_is_refused_by_name(
    researcher: paillier.SecretKey, damage: str, reason: str
):
    bench = make_bench("encrypted_sum")
    bench.encryption_key = researcher.public
    for node in bench.nodes.values():
        node.encryption_key = researcher.public
    width = researcher.public.ciphertext_bytes

    def damaged(contribution: Contribution) -> Contribution:
        parts = contribution.ciphertexts or ()
        if damage == "words":
            return replace(contribution, ciphertexts=None, words=bytes(8 * len(parts)))
        if damage == "more":
            return replace(contribution, ciphertexts=(*parts, parts[0]))
        bad = parts[0][:-1] if damage == "short" else bytes(width)
        return replace(contribution, ciphertexts=(bad, *parts[1:]))

    spoil(bench, ASSETS[1], damaged)
    expect_failure(bench, {ASSETS[1]: reason})
