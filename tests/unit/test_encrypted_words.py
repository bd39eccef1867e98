"""Packed contributions: how many ciphertexts a round has, and what is added to them."""

import numpy as np
import pytest

from federated.rounds import encrypt_words, packing_for
from privacy import paillier
from privacy.paillier import PackedColumn, SecretKey


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


@pytest.mark.parametrize(
    ("parties", "slot", "slots"), [(1, 66, 31), (2, 66, 31), (3, 67, 30), (6, 67, 30), (40, 70, 29)]
)
def test_a_slot_has_room_for_every_party_and_for_what_takes_the_masks_off(
    secret: SecretKey, parties: int, slot: int, slots: int
):
    # The rule of PROTOCOL.md: 64 bits and as many as the number of parties and one has.
    packing = packing_for(range(parties))
    assert packing.slot_bits == 64 + (parties + 1).bit_length() == slot
    assert packing.slots(secret.public) == slots


def test_words_are_laid_out_as_the_protocol_says(secret: SecretKey):
    words = np.random.default_rng(2).integers(0, 2**64, 65, np.uint64)
    parts = encrypt_words(secret.public, words, range(3))
    assert len(parts) == 3
    assert {len(part) for part in parts} == {secret.public.ciphertext_bytes}
    opened = paillier.cipher.decrypt(secret, [int.from_bytes(part, "big") for part in parts])
    for place, word in enumerate(words.tolist()):
        at, slot = divmod(place, 30)
        assert opened[at] >> 67 * slot & (2**67 - 1) == word
    assert opened[2] < 2 ** (67 * 5)


def test_every_party_and_the_correction_at_their_largest_still_fit(secret: SecretKey):
    public, words = secret.public, np.full(31, 2**64 - 1, np.uint64)
    packing = packing_for(range(3))
    columns = [
        PackedColumn(
            public,
            packing,
            31,
            1,
            tuple(int.from_bytes(each, "big") for each in encrypt_words(public, words, range(3))),
        )
        for _ in range(3)
    ]
    total = paillier.add_public_words(paillier.add_columns(columns), words)
    assert total.units == packing.weight == 4
    assert paillier.open_column(secret, total).tolist() == [2**64 - 4] * 31


def test_a_node_keeps_the_table_of_a_key(secret: SecretKey):
    words = np.zeros(1, np.uint64)
    encrypt_words(secret.public, words, range(2))
    kept = paillier.encryptor_for.cache_info().hits
    encrypt_words(secret.public, words, range(2))
    assert paillier.encryptor_for.cache_info().hits == kept + 1
