"""Packed columns: what fits, what is added, and what is refused before it could overflow."""

from dataclasses import replace

import numpy as np
import phe
import pytest

from privacy import paillier
from privacy.errors import (
    CiphertextError,
    OutOfRangeError,
    OverflowRefusedError,
    VectorError,
)
from privacy.fixedpoint import decode, encode, plan_scale
from privacy.paillier import (
    PackedColumn,
    Packing,
    PublicKey,
    SecretKey,
    add_columns,
    add_public_words,
    encryptor_for,
    fold,
    group_columns,
    interop,
    open_column,
    read_signed,
    rerandomise_column,
    seal,
    weigh_columns,
)
from privacy.paillier.cipher import decrypt
from privacy.paillier.packing import MAX_WEIGHT

TOP = 2**64 - 1


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


def words(*numbers: int) -> np.ndarray:
    return np.array([number % 2**64 for number in numbers], np.uint64)


def sealed(secret: SecretKey, packing: Packing, *numbers: int) -> PackedColumn:
    return seal(encryptor_for(secret.public), packing, words(*numbers))


def test_thirty_masked_words_of_four_parties_share_one_ciphertext(secret: SecretKey):
    packing = Packing(weight=4)
    assert packing.slot_bits == 64 + 3
    assert packing.slots(secret.public) == 30
    column = sealed(secret, packing, *range(31))
    assert len(column.ciphertexts) == 2
    assert open_column(secret, column).tolist() == list(range(31))


@pytest.mark.parametrize("parties", [1, 2, 3, 4, 7, 8])
def test_full_slots_of_the_largest_words_do_not_reach_their_neighbours(
    secret: SecretKey, parties: int
):
    packing = Packing(weight=parties)
    slots = packing.slots(secret.public)
    edge = [TOP, 0] * slots + [TOP]
    total = add_columns([sealed(secret, packing, *edge)] * parties)
    assert open_column(secret, total).tolist() == [word * parties % 2**64 for word in edge]
    # Every slot full at once is the largest plaintext that there is.
    full = add_columns([sealed(secret, packing, *[TOP] * slots)] * parties)
    (plaintext,) = decrypt(secret, full.ciphertexts)
    assert plaintext.bit_length() <= secret.public.bits - 1
    assert open_column(secret, full).tolist() == [TOP * parties % 2**64] * slots


def test_an_unchecked_addition_would_corrupt_the_neighbour_and_the_checked_one_is_refused(
    secret: SecretKey,
):
    packing = Packing(weight=1)
    column = sealed(secret, packing, TOP, 5)
    with pytest.raises(OverflowRefusedError, match="3 units"):
        add_columns([column] * 3)
    # The twin without the check: 3 * (2^64 - 1) fills 66 bits of a slot of 65.
    raw = paillier.add(secret.public, [column.ciphertexts] * 3)
    (plaintext,) = decrypt(secret, raw)
    assert plaintext >> packing.slot_bits & packing.word_mask == 16
    assert add_columns([column]) == column


def test_a_word_wider_than_its_slot_is_refused_before_it_is_packed(secret: SecretKey):
    packing = Packing(weight=2, word_bits=20)
    with pytest.raises(OutOfRangeError, match="position 1"):
        sealed(secret, packing, 2**20 - 1, 2**20)
    column = sealed(secret, packing, 2**20 - 1, 2**20 - 1)
    assert open_column(secret, add_columns([column, column])).tolist() == [2**20 - 2] * 2


def test_a_slot_that_no_sum_can_fill_is_refused(secret: SecretKey):
    packing = Packing(weight=4)
    column = sealed(secret, packing, TOP, TOP)
    three = add_columns([column] * 3)
    # Whoever says that two were added where three were is told so.
    with pytest.raises(CiphertextError, match="more than the sum"):
        open_column(secret, replace(three, units=2))
    assert open_column(secret, three).tolist() == [TOP * 3 % 2**64] * 2


def test_what_stands_above_the_last_slot_is_refused(secret: SecretKey):
    packing = Packing(weight=4)
    column = sealed(secret, packing, 1, 2, 3)
    with pytest.raises(CiphertextError, match="more than the sum"):
        open_column(secret, replace(column, length=2))
    assert open_column(secret, column).tolist() == [1, 2, 3]


def test_a_changed_ciphertext_opens_to_no_sum(secret: SecretKey):
    column = sealed(secret, Packing(weight=4), 1, 2, 3)
    (ciphertext,) = column.ciphertexts
    with pytest.raises(CiphertextError, match="more than the sum"):
        open_column(secret, replace(column, ciphertexts=(ciphertext ^ 2,)))


def test_weights_may_be_negative_or_zero(secret: SecretKey):
    packing = Packing(weight=12)
    columns = [
        sealed(secret, packing, 5, 0, TOP),
        sealed(secret, packing, -3, TOP, 1),
        sealed(secret, packing, 9, 9, 9),
    ]
    total = weigh_columns(columns, [7, -5, 0])
    assert total.units == 12
    got = read_signed(open_column(secret, total), packing)
    assert got.tolist() == [50, 5, -12]
    nothing = weigh_columns(columns, [0, 0, 0])
    assert open_column(secret, nothing).tolist() == [0, 0, 0]


@pytest.mark.parametrize("weight", [-3, -1, 3])
def test_a_negative_weight_borrows_from_no_neighbour(secret: SecretKey, weight: int):
    packing = Packing(weight=3)
    numbers = [0, TOP, 0, 1, TOP]
    column = sealed(secret, packing, *numbers)
    total = weigh_columns([column], [weight])
    expected = [number * weight % 2**64 for number in numbers]
    assert open_column(secret, total).tolist() == expected
    if weight < 0:
        # The twin without the offset is a number near n, which is no content of slots.
        bare = paillier.cipher.multiply(secret.public, column.ciphertexts, weight)
        with pytest.raises(CiphertextError):
            open_column(secret, replace(total, ciphertexts=tuple(bare)))


def test_weights_beyond_the_room_are_refused(secret: SecretKey):
    packing = Packing(weight=10)
    column = sealed(secret, packing, TOP)
    with pytest.raises(OverflowRefusedError, match="11 units"):
        weigh_columns([column, column], [6, -5])
    assert open_column(secret, weigh_columns([column, column], [6, -4])).tolist() == [2**64 - 2]
    doubled = add_columns([column, column])
    with pytest.raises(OverflowRefusedError, match="12 units"):
        weigh_columns([doubled], [-6])


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [1, 0.5], [1, True], [1, float("nan")]])
def test_weights_that_are_not_one_integer_for_each_are_refused(
    secret: SecretKey, weights: list[object]
):
    column = sealed(secret, Packing(weight=9), 1)
    with pytest.raises(VectorError, match="one integer weight"):
        weigh_columns([column, column], weights)


def test_rows_are_added_by_their_public_label(secret: SecretKey):
    packing = Packing(weight=3)
    rows = [sealed(secret, packing, number, 1) for number in (10, 20, 30, 40)]
    groups = group_columns(rows, ["b", "a", "b", "b"])
    assert list(groups) == ["b", "a"]
    opened = {label: open_column(secret, column).tolist() for label, column in groups.items()}
    assert opened == {"b": [80, 3], "a": [20, 1]}
    with pytest.raises(OverflowRefusedError):
        group_columns(rows, ["b"] * 4)
    with pytest.raises(VectorError, match="one label"):
        group_columns(rows, ["b"])


def test_public_words_are_added_and_take_a_unit(secret: SecretKey):
    column = sealed(secret, Packing(weight=2), TOP, 7)
    total = add_public_words(column, words(TOP, -9))
    assert open_column(secret, total).tolist() == [2**64 - 2, 2**64 - 2]
    with pytest.raises(OverflowRefusedError):
        add_public_words(total, words(0, 0))
    with pytest.raises(VectorError, match="column of 2"):
        add_public_words(column, words(1))


def test_folding_adds_lanes_and_needs_room_for_it(secret: SecretKey):
    packing = Packing.for_total(secret.public, 65)
    slots = packing.slots(secret.public)
    assert (packing.weight, slots) == (3, 31)
    column = sealed(secret, packing, *range(65))
    opened = open_column(secret, fold(column))
    assert opened.tolist() == [sum(range(lane, 65, slots)) for lane in range(slots)]
    with pytest.raises(OverflowRefusedError):
        fold(sealed(secret, Packing(weight=2), *range(65)))


@pytest.mark.parametrize(("length", "contributions"), [(1, 1), (31, 1), (10_000, 1), (500, 7)])
def test_a_packing_for_a_total_has_room_for_it(secret: SecretKey, length: int, contributions: int):
    packing = Packing.for_total(secret.public, length, contributions=contributions)
    assert contributions * packing.plaintexts(secret.public, length) <= packing.weight
    for bad in ((0, 1), (1, 0)):
        with pytest.raises(VectorError):
            Packing.for_total(secret.public, bad[0], contributions=bad[1])


def test_a_result_is_hidden_before_it_leaves(secret: SecretKey):
    packing = Packing(weight=9)
    column = sealed(secret, packing, 4, 5)
    result = weigh_columns([column], [9])
    # Who knows the inputs finds the weight by trying; after re-randomising nothing fits.
    assert [w for w in range(10) if weigh_columns([column], [w]).ciphertexts == result.ciphertexts]
    leaving = rerandomise_column(encryptor_for(secret.public), result)
    tried = [weigh_columns([column], [w]).ciphertexts for w in range(10)]
    assert leaving.ciphertexts not in tried
    assert open_column(secret, leaving).tolist() == [36, 45]
    other = encryptor_for(PublicKey(secret.public.n - 4))
    with pytest.raises(CiphertextError, match="own key"):
        rerandomise_column(other, result)


def test_a_wrong_key_opens_nothing(secret: SecretKey):
    column = sealed(secret, Packing(weight=1), 1)
    other = SecretKey.generate(2048)
    with pytest.raises(CiphertextError, match="another key"):
        open_column(other, column)
    forced = PackedColumn(
        other.public, column.packing, 1, 1, (column.ciphertexts[0] % other.public.n**2,)
    )
    with pytest.raises(CiphertextError, match="more than the sum"):
        open_column(other, forced)


def test_columns_of_other_keys_sizes_packings_and_lengths_do_not_meet(secret: SecretKey):
    packing = Packing(weight=4)
    column = sealed(secret, packing, 1)
    larger = SecretKey.generate(3072)
    strangers = [
        sealed(larger, packing, 1),
        sealed(secret, Packing(weight=5), 1),
        sealed(secret, Packing(weight=4, word_bits=32), 1),
        sealed(secret, packing, 1, 2),
    ]
    for stranger in strangers:
        with pytest.raises(VectorError, match="column 1 is"):
            add_columns([column, stranger])
        with pytest.raises(VectorError, match="column 1 is"):
            weigh_columns([column, stranger], [1, 1])
    for nothing in (
        add_columns,
        lambda none: weigh_columns(none, []),
        lambda none: group_columns(none, []),
    ):
        with pytest.raises(VectorError, match="no column"):
            nothing([])
    # The same modulus under another word about its primes is the same key.
    silent = replace(column, public=PublicKey(secret.public.n))
    assert open_column(secret, add_columns([column, silent])).tolist() == [2]


def test_what_is_no_vector_of_words_is_refused(secret: SecretKey):
    encryptor, packing = encryptor_for(secret.public), Packing(weight=1)
    for bad in (np.zeros(2), np.zeros((1, 2), np.uint64), np.array([1, 2]), np.array([np.nan])):
        with pytest.raises(VectorError):
            seal(encryptor, packing, bad)
    with pytest.raises(VectorError, match="no word"):
        seal(encryptor, packing, np.zeros(0, np.uint64))
    assert open_column(secret, sealed(secret, packing, TOP)).tolist() == [TOP]


def test_a_column_has_as_many_ciphertexts_as_its_words_need(secret: SecretKey):
    packing = Packing(weight=1)
    column = sealed(secret, packing, *range(40))
    first, second = column.ciphertexts
    for bad in ((first,), (first, second, second), ()):
        with pytest.raises(VectorError, match="40 packed words"):
            replace(column, ciphertexts=bad)
    with pytest.raises(VectorError):
        replace(column, length=0, ciphertexts=())
    with pytest.raises(CiphertextError, match="ciphertext 1"):
        replace(column, ciphertexts=(first, 0))
    for units in (0, 2):
        with pytest.raises(OverflowRefusedError):
            replace(column, units=units)


@pytest.mark.parametrize(
    ("weight", "word_bits"),
    [(0, 64), (-1, 64), (MAX_WEIGHT + 1, 64), (True, 64), (1.0, 64), (1, 0), (1, 65), (1, 64.0)],
)
def test_impossible_packings_are_refused(weight: object, word_bits: object):
    with pytest.raises(VectorError):
        Packing(weight, word_bits)
    Packing(MAX_WEIGHT, 1)


def test_fixed_point_values_travel_packed(secret: SecretKey):
    scale = plan_scale(1000.0, 3)
    rows = [[-12.25, 3.5, 0.1], [0.1, -900.0, 0.2], [999.0, -0.1, -0.3]]
    packing = Packing(weight=3)
    columns = [sealed(secret, packing, *encode(row, scale).tolist()) for row in rows]
    got = decode(open_column(secret, add_columns(columns)), scale)
    assert np.abs(got - np.sum(rows, axis=0)).max() < 1e-12


def test_phe_packs_and_opens_the_same_plaintexts(secret: SecretKey):
    packing = Packing(weight=2)
    (plaintext,) = packing.pack(secret.public, words(3, TOP))
    theirs = int(phe.PaillierPublicKey(secret.public.n).raw_encrypt(plaintext))
    column = PackedColumn(secret.public, packing, 2, 1, (theirs,))
    total = add_columns([column, sealed(secret, packing, 4, 2)])
    assert open_column(secret, total).tolist() == [7, 1]
    opened = int(interop.raw_phe_key(secret).raw_decrypt(total.ciphertexts[0]))
    assert packing.unpack(secret.public, [opened], 2).tolist() == [7, 1]
