import copy
import hashlib
import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.errors import MaskError, MaskKeyError, VectorError
from privacy.fixedpoint import Scale, decode, encode, plan_scale
from privacy.masking import MaskKey, add, mask, mask_context, pairwise_mask, self_mask

IDS = ("asset:a", "asset:b", "asset:c")
CONTEXT = mask_context("job:1", 0, 1, IDS)

# The points of order 1, 2, 4 and 8 on the curve and its twist, in canonical spelling (RFC 7748,
# section 6.1 asks to refuse their all-zero result).
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
]


def fixed_key(seed: int) -> MaskKey:
    secret = X25519PrivateKey.from_private_bytes(hashlib.sha256(bytes([seed])).digest())
    return MaskKey(secret.public_key().public_bytes_raw(), secret)


def masked(
    vectors: dict[str, np.ndarray], keys: dict[str, MaskKey], context: bytes = CONTEXT
) -> dict[str, np.ndarray]:
    return {
        party: mask(
            vector,
            own_id=party,
            own=keys[party],
            peers={other: keys[other].public for other in keys if other != party},
            context=context,
        )
        for party, vector in vectors.items()
    }


@pytest.fixture
def keys() -> dict[str, MaskKey]:
    return {party: MaskKey.generate() for party in IDS}


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {party: rng.integers(0, 2**64, 50, dtype=np.uint64) for party in IDS}


def call(keys: dict[str, MaskKey], **change: object) -> np.ndarray:
    arguments: dict[str, object] = {
        "vector": np.zeros(4, np.uint64),
        "own_id": IDS[0],
        "own": keys[IDS[0]],
        "peers": {party: keys[party].public for party in IDS[1:]},
        "context": CONTEXT,
    }
    arguments.update(change)
    return mask(arguments.pop("vector"), **arguments)


def test_masks_cancel_in_the_sum_of_all_in_any_order(
    keys: dict[str, MaskKey], vectors: dict[str, np.ndarray]
):
    plain = np.add.reduce(list(vectors.values()))
    replies = masked(vectors, keys)
    assert (add(list(replies.values())) == plain).all()
    assert (add(list(reversed(replies.values()))) == plain).all()


def test_a_missing_party_leaves_noise_and_its_twin_without_masks_leaves_the_sum(
    keys: dict[str, MaskKey], vectors: dict[str, np.ndarray]
):
    some = IDS[:2]
    plain = add([vectors[party] for party in some])
    replies = masked(vectors, keys)
    rest = add([replies[party] for party in some])
    assert (rest != plain).all()
    # The leftover is one whole stream: as many ones as zeros (6 standard deviations of slack).
    ones = int(np.bitwise_count(rest - plain).sum())
    assert abs(ones - 1600) < 6 * 28.3
    # The twin: with nothing masked, two of three parties' sum is there to read.
    assert (add([vectors[party] for party in some]) == plain).all()


def test_a_single_reply_shows_nothing_and_its_unmasked_twin_shows_the_value(
    keys: dict[str, MaskKey],
):
    scale = Scale(0, 1, 3)
    canary = encode([31337.0] * 50, scale)
    reply = call(keys, vector=canary)
    needle = (31337).to_bytes(8, "little")
    assert needle not in reply.tobytes()
    assert len(set(reply.tolist())) == 50
    assert needle in canary.tobytes()
    assert decode(canary, scale)[0] == 31337.0


def test_the_same_vector_looks_different_in_every_round_attempt_and_under_fresh_keys(
    keys: dict[str, MaskKey],
):
    seen = [
        call(keys, context=mask_context("job:1", 0, 1, IDS)),
        call(keys, context=mask_context("job:1", 0, 2, IDS)),
        call(keys, context=mask_context("job:1", 1, 1, IDS)),
        call(keys, context=mask_context("job:2", 0, 1, IDS)),
        call({party: MaskKey.generate() for party in IDS}),
    ]
    for at, one in enumerate(seen):
        for other in seen[:at]:
            assert (one != other).all()


def test_reused_masks_subtract_to_the_plain_difference_and_fresh_ones_do_not(
    keys: dict[str, MaskKey], vectors: dict[str, np.ndarray]
):
    before, after = vectors[IDS[0]], vectors[IDS[1]]
    first = call(keys, vector=before)
    # The attack works where both keys and context are reused ...
    assert (call(keys, vector=after) - first == after - before).all()
    # ... and fails with either of them fresh.
    other = mask_context("job:1", 0, 2, IDS)
    assert (call(keys, vector=after, context=other) - first != after - before).all()
    fresh = {party: MaskKey.generate() for party in IDS}
    assert (call(fresh, vector=after) - first != after - before).all()


def test_two_of_two_can_subtract_themselves():
    # What CLAIMS.md says about two parties: the sum less one's own is the other's.
    keys = {party: MaskKey.generate() for party in IDS[:2]}
    scale = plan_scale(1000.0, 2)
    vectors = {IDS[0]: encode([12.5], scale), IDS[1]: encode([100.0], scale)}
    total = add(list(masked(vectors, keys).values()))
    assert decode(total - vectors[IDS[0]], scale).tolist() == [100.0]


def test_a_party_that_disagrees_on_the_cohort_spoils_the_sum(
    keys: dict[str, MaskKey], vectors: dict[str, np.ndarray]
):
    plain = add(list(vectors.values()))
    agreed, other = masked(vectors, keys), masked(vectors, keys, mask_context("job:1", 0, 1, "ab"))
    assert (add([agreed[IDS[0]], agreed[IDS[1]], other[IDS[2]]]) != plain).all()


def test_the_stream_is_pinned():
    # Both ends of a deployment may run different releases: these bytes may only change with v2.
    keys = {"a": fixed_key(1), "b": fixed_key(2)}
    context = mask_context("job:x", 0, 0, ["b", "a"])
    assert context.hex() == PINNED_CONTEXT
    reply = mask(
        np.zeros(9, np.uint64),
        own_id="a",
        own=keys["a"],
        peers={"b": keys["b"].public},
        context=context,
    )
    assert hashlib.sha256(reply.astype("<u8").tobytes()).hexdigest() == PINNED_STREAM


PINNED_CONTEXT = "d3536ccac254613d4c7ccb590c8dc272473faf433c79a5a8e25c91fb79befaf3"
PINNED_STREAM = "5c4980d0ff1fd7400b51efb084ab8b45d093c4544b97230492bf13ac56380cda"


def test_the_vector_is_left_alone(keys: dict[str, MaskKey]):
    vector = np.arange(4, dtype=np.uint64)
    call(keys, vector=vector)
    assert vector.tolist() == [0, 1, 2, 3]
    add([vector, vector])
    assert vector.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_small_order_keys_are_refused(keys: dict[str, MaskKey], public: bytes):
    with pytest.raises(MaskKeyError, match=r"'asset:b'.*small order"):
        call(keys, peers={IDS[1]: public, IDS[2]: keys[IDS[2]].public})
    # The twin: a key of full order in its place is taken.
    call(keys, peers={IDS[1]: MaskKey.generate().public, IDS[2]: keys[IDS[2]].public})


@pytest.mark.parametrize(
    "public",
    [
        b"",
        bytes(31),
        bytes(33),
        (2**255 - 19 + 9).to_bytes(32, "little"),
        (2**255 + 9).to_bytes(32, "little"),
    ],
)
def test_malformed_keys_and_second_spellings_are_refused(keys: dict[str, MaskKey], public: bytes):
    with pytest.raises(MaskKeyError, match="malformed"):
        call(keys, peers={IDS[1]: public})


def test_one_key_for_two_parties_is_refused(keys: dict[str, MaskKey]):
    public = keys[IDS[1]].public
    with pytest.raises(MaskKeyError, match="'asset:c' sent the mask key of party 'asset:b'"):
        call(keys, peers={IDS[1]: public, IDS[2]: public})
    with pytest.raises(MaskKeyError, match="of this party"):
        call(keys, peers={IDS[1]: keys[IDS[0]].public})


def test_a_lone_party_is_refused(keys: dict[str, MaskKey]):
    with pytest.raises(MaskError, match="nothing to hide behind"):
        call(keys, peers={})


def test_a_party_among_its_own_peers_is_refused(keys: dict[str, MaskKey]):
    with pytest.raises(MaskError, match="among its own peers"):
        call(keys, peers={IDS[0]: MaskKey.generate().public})


@pytest.mark.parametrize("change", [{"context": b""}, {"own_id": ""}, {"own_id": "\ud800"}])
def test_an_empty_context_or_a_broken_id_is_refused(
    keys: dict[str, MaskKey], change: dict[str, object]
):
    with pytest.raises(MaskError):
        call(keys, **change)


@pytest.mark.parametrize(
    "vector", [np.zeros(3), np.zeros(3, np.int64), np.zeros((1, 3), np.uint64)]
)
def test_what_is_no_word_vector_is_refused(keys: dict[str, MaskKey], vector: np.ndarray):
    with pytest.raises(VectorError):
        call(keys, vector=vector)
    with pytest.raises(VectorError):
        add([vector])


def test_vectors_of_other_lengths_and_none_are_refused():
    with pytest.raises(VectorError, match="contribution 1 has 1 words where the first has 3"):
        add([np.zeros(3, np.uint64), np.zeros(1, np.uint64)])
    with pytest.raises(VectorError):
        add([])


def test_the_secret_stays_out_of_repr_copies_and_pickles():
    key = fixed_key(1)
    secret = key._secret.private_bytes_raw()
    assert repr(key) == f"MaskKey(public={key.public!r})"
    assert secret.hex() not in repr(key)
    with pytest.raises(MaskError):
        pickle.dumps(key)
    with pytest.raises(MaskError):
        copy.copy(key)


SEED = b"\x07" * 32


def test_a_seed_adds_the_self_mask_to_the_pairwise_one(
    keys: dict[str, MaskKey], vectors: dict[str, np.ndarray]
):
    vector = vectors[IDS[0]]
    peers = {party: keys[party].public for party in IDS[1:]}
    pairwise = pairwise_mask(50, own_id=IDS[0], own=keys[IDS[0]], peers=peers, context=CONTEXT)
    own = self_mask(50, seed=SEED, owner=IDS[0], context=CONTEXT)
    assert (call(keys, vector=vector) == vector + pairwise).all()
    assert (call(keys, vector=vector, seed=SEED) == vector + pairwise + own).all()
    assert (own != 0).all()


def test_a_self_mask_differs_with_seed_owner_and_context():
    seen = [
        self_mask(9, seed=SEED, owner="a", context=CONTEXT),
        self_mask(9, seed=b"\x08" * 32, owner="a", context=CONTEXT),
        self_mask(9, seed=SEED, owner="b", context=CONTEXT),
        self_mask(9, seed=SEED, owner="a", context=mask_context("job:1", 0, 2, IDS)),
    ]
    for at, one in enumerate(seen):
        for other in seen[:at]:
            assert (one != other).all()
    assert (self_mask(5, seed=SEED, owner="a", context=CONTEXT) == seen[0][:5]).all()


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(keys: dict[str, MaskKey], length: int):
    with pytest.raises(MaskError, match=f"not {length}"):
        call(keys, seed=bytes(length))
    call(keys, seed=SEED)


def test_a_self_mask_without_context_or_owner_is_refused():
    with pytest.raises(MaskError, match="needs a context"):
        self_mask(3, seed=SEED, owner="a", context=b"")
    with pytest.raises(MaskError, match="empty"):
        self_mask(3, seed=SEED, owner="", context=CONTEXT)


@pytest.mark.parametrize("length", [-1, 2**31 + 1, 2.0, True])
def test_a_mask_for_no_vector_is_refused(keys: dict[str, MaskKey], length: int):
    with pytest.raises(VectorError, match="no contribution has"):
        self_mask(length, seed=SEED, owner="a", context=CONTEXT)
    with pytest.raises(VectorError, match="no contribution has"):
        pairwise_mask(length, own_id="a", own=keys[IDS[0]], peers={}, context=CONTEXT)


def test_a_key_is_the_same_after_its_secret_went_round():
    key = MaskKey.generate()
    again = MaskKey.from_secret(key.raw_secret_bytes())
    assert again.public == key.public
    assert again.raw_secret_bytes() == key.raw_secret_bytes()
    assert MaskKey.from_secret(bytes(32)).public != key.public
    arguments = {"own_id": "a", "peers": {"b": MaskKey.generate().public}, "context": CONTEXT}
    first = pairwise_mask(7, own=key, **arguments)
    assert (pairwise_mask(7, own=again, **arguments) == first).all()


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_mask_key_of_another_length_is_refused(length: int):
    with pytest.raises(MaskError, match=f"32 bytes, not {length}"):
        MaskKey.from_secret(bytes(length))


def test_contexts_are_unambiguous():
    rounds = [
        ("job", 0, 0, ["a", "b"]),
        ("job", 0, 1, ["a", "b"]),
        ("job", 1, 0, ["a", "b"]),
        ("joba", 0, 0, ["a", "b"]),
        ("job", 0, 0, ["a", "bc"]),
        ("job", 0, 0, ["ab", "c"]),
        ("job", 0, 0, ["a", "b", "c"]),
    ]
    assert len({mask_context(*one) for one in rounds}) == len(rounds)
    assert mask_context("job", 0, 0, ["a", "b"]) == mask_context("job", 0, 0, ("b", "a"))
    assert len(mask_context("job", 0, 0, ["a", "b"])) == 32


@pytest.mark.parametrize(
    "arguments",
    [
        ("", 0, 0, ["a", "b"]),
        ("job", -1, 0, ["a", "b"]),
        ("job", 0, -1, ["a", "b"]),
        ("job", 0, 1.0, ["a", "b"]),
        ("job", 0, True, ["a", "b"]),
        ("job", 2**63, 0, ["a", "b"]),
        ("job", 0, 0, ["a"]),
        ("job", 0, 0, []),
        ("job", 0, 0, ["a", "a"]),
        ("job", 0, 0, ["a", ""]),
        ("job", 0, 0, ["a", "\udfff"]),
    ],
)
def test_a_context_without_meaning_is_refused(arguments: tuple[str, int, int, list[str]]):
    with pytest.raises(MaskError):
        mask_context(*arguments)
