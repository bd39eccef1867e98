"""Three parties' shared arithmetic: results, what each of them sees, and what is refused."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.errors import SharedParcelError, SharedRangeError, SharingError
from privacy.replicated import ring
from privacy.replicated.party import MOST_DOUBT, Party, truncation_doubt
from privacy.replicated.ring import Elements
from privacy.replicated.shared import Matrix, Shared, joined, require_room
from tests.sharing import BINDING, NAMES, own, share_out

BITS = 24
UNIT = 2.0**-BITS
ROWS, WIDTH = 40, 3
TABLE = np.linspace(-2.0, 3.0, ROWS * WIDTH).reshape(ROWS, WIDTH) ** 2
WEIGHTS = np.array([[0.5], [-1.25], [3.0]])
Steps = Generator[Any, Any, Any]


def given_by(party: Party, owner: str, values: Any, bound: float = 16.0) -> Steps:
    return party.deal(owner, own(party, owner, values), np.shape(values), BITS, bound)


def opened(party: Party, shared: Any, receivers: Any) -> Steps:
    first, *rest = shared
    shown = yield from party.open(first, receivers)
    return [shown, *((yield from opened(party, rest, receivers)) if rest else [])]


@pytest.mark.parametrize("owner", NAMES)
@pytest.mark.parametrize("receiver", NAMES)
def test_what_one_deals_another_opens(owner: str, receiver: str):
    def program(party: Party) -> Steps:
        shared = yield from given_by(party, owner, TABLE)
        return (yield from party.open(shared, [receiver]))

    told = share_out(program)
    for name, shown in told.results.items():
        if name == receiver:
            assert np.abs(shown - TABLE).max() <= UNIT
        else:
            assert shown is None
    assert told.rounds == 3


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-16, 16), st.floats(-16, 16)), min_size=1, max_size=20),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
)
def test_products_of_any_two_parties_numbers_are_right_to_a_unit(
    pairs: list[tuple[float, float]], first: str, second: str
):
    x, y = (np.array(side) for side in zip(*pairs, strict=True))

    def program(party: Party) -> Steps:
        left = yield from given_by(party, first, x)
        right = yield from given_by(party, second, y)
        cut = yield from party.multiply(left, right, fraction_bits=BITS)
        exact = yield from party.multiply(left, right)
        return (yield from opened(party, (cut, exact), NAMES))

    rounded = np.rint(np.ldexp(x, BITS)), np.rint(np.ldexp(y, BITS))
    for cut, exact in share_out(program).results.values():
        assert np.array_equal(exact, rounded[0] * rounded[1] * UNIT**2)
        assert np.abs(cut - exact).max() <= 1.01 * UNIT


def test_matrix_products_cut_scale_and_add_in_one():
    def program(party: Party) -> Steps:
        x = Matrix.of((yield from given_by(party, "a", TABLE)))
        w = yield from given_by(party, "c", WEIGHTS)
        z = yield from party.matmul(x, w, fraction_bits=BITS)
        start = w.times(3 << BITS, more_bits=BITS + 5).halved(0)
        moved = yield from party.matmul_transposed(
            x, z, fraction_bits=BITS, bound=2.0**20, halvings=5, plus=start
        )
        thinner = yield from party.truncate(w, 10)
        return (yield from opened(party, (z, moved, thinner), ["b"]))

    told = share_out(program)
    z, moved, thinner = told.results["b"]
    assert np.abs(z - TABLE @ WEIGHTS).max() < 64 * UNIT
    assert np.abs(moved - TABLE.T @ (TABLE @ WEIGHTS) / 32 - WEIGHTS * 3 / 32).max() < 2e-4
    assert np.abs(thinner - WEIGHTS).max() <= 2.0**-10
    # Keys, two deals, two products of two rounds, a truncation, three openings.
    assert told.rounds == 1 + 2 + 2 * 2 + 1 + 3


def test_sums_differences_and_public_factors_need_no_talk():
    def program(party: Party) -> Steps:
        x = yield from given_by(party, "a", TABLE)
        y = yield from given_by(party, "b", TABLE[::-1])
        made = x.plus(y).minus(party.constant(np.full(TABLE.shape, 0.5), BITS)).times(-3)
        parts = joined([made.rows(0, 4), made.rows(4, ROWS)])
        flat = parts.reshaped(WIDTH * ROWS)
        return (yield from opened(party, (flat, flat.halved(2)), NAMES))

    told = share_out(program)
    expected = -3 * (TABLE + TABLE[::-1] - 0.5)
    for whole, quarter in told.results.values():
        assert np.abs(whole.reshape(TABLE.shape) - expected).max() < 12 * UNIT
        assert np.array_equal(quarter, whole / 4)
    assert told.rounds == 5


# --- what one party sees


def viewed(name: str, values: Any) -> Elements:
    """Everything that one party receives while a product is made, opened to nobody."""

    def program(party: Party) -> Steps:
        x = yield from given_by(party, "a", values)
        y = yield from given_by(party, "b", values)
        z = yield from party.multiply(x, y)
        yield from party.multiply(z, x, fraction_bits=BITS)
        return None

    data = b"".join(share_out(program).heard[name][1:])
    return ring.from_bytes(data, (len(data) // ring.ELEMENT_BYTES,))


@pytest.fixture(name="_unmasked")
def _without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Party, "noise", lambda _self, _at, words: np.zeros(words, dtype=np.uint64))


def bytes_look_random(seen: Elements) -> bool:
    counts = np.bincount(np.frombuffer(ring.to_bytes(seen), np.uint8), minlength=256)
    return bool(stats.chisquare(counts).pvalue > 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_party_receives_looks_random(name: str):
    assert bytes_look_random(viewed(name, np.full(2000, 1.5)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("_unmasked")
def test_without_streams_it_does_not(name: str):
    assert not bytes_look_random(viewed(name, np.full(2000, 1.5)))


def test_the_same_values_are_never_sent_in_the_same_way_twice():
    first, again = (viewed("b", TABLE) for _ in range(2))
    assert not set(first[:, 0].tolist()) & set(again[:, 0].tolist())


@pytest.mark.usefixtures("_unmasked")
def test_without_streams_they_are():
    first, again = (viewed("b", TABLE) for _ in range(2))
    assert np.array_equal(first, again)


def test_one_partys_components_of_a_value_tell_nothing_and_two_parties_tell_all():
    kept: dict[str, Shared] = {}

    def program(party: Party) -> Steps:
        kept[party.names[party.place]] = yield from given_by(party, "a", TABLE)

    share_out(program)
    for name, other in [*pairwise(NAMES), ("c", "a")]:
        pair, after = kept[name], kept[other]
        both = ring.add(ring.add(pair.first, pair.second), after.second)
        assert np.abs(ring.decode(both, BITS) - TABLE).max() <= UNIT
    for name in ("b", "c"):
        # Without the missing component every value is as likely: the sum is off by a random one.
        short = ring.decode(ring.add(kept[name].first, kept[name].second), BITS)
        assert abs(stats.spearmanr(short.ravel(), TABLE.ravel()).statistic) < 0.45


def test_streams_differ_by_step_binding_and_component():
    def program(party: Party) -> Steps:
        yield from ()
        found = []
        for _ in range(3):
            party.next_step()
            found += [party.noise(at, 4).tobytes() for at in range(3) if party.holds(at)]
        return found

    results = share_out(program).results
    assert [len(set(each)) for each in results.values()] == [6, 6, 6]
    # Each stream is at exactly two parties.
    every = [stream for each in results.values() for stream in each]
    assert len(set(every)) == 9
    party = Party(NAMES, "a", BINDING)
    other = Party(NAMES, "a", BINDING[::-1])
    for each in (party, other):
        each._keys = {0: bytes(32), 1: bytes(32)}
        each.next_step()
    assert party.noise(0, 2).tolist() != other.noise(0, 2).tolist()


# --- bounds


def test_a_truncation_errs_by_one_unit_at_most_and_not_to_one_side():
    values = np.linspace(-7, 7, 4001)

    def program(party: Party) -> Steps:
        x = yield from given_by(party, "a", values)
        y = yield from party.truncate(x, 8)
        return (yield from party.open(y, ["a"]))

    errors = (share_out(program).results["a"] - values) * 2**8
    assert np.abs(errors).max() <= 1.0 + 1e-4
    assert abs(errors.mean()) < 0.05


def test_a_truncation_of_a_number_without_room_goes_wrong_which_is_why_it_is_refused():
    """2^124 wraps with a probability of 1/16; the bound that allows it is a lie."""
    shape = (3000,)

    def program(party: Party, bound: float) -> Steps:
        element = ring.multiply(
            ring.widen(np.full(shape, 1 << 62)), ring.widen(np.full(shape, 1 << 62))
        )
        elements = element if party.place == 0 else None
        shared = yield from party.deal_elements("a", elements, shape, 0, bound)
        return (yield from party.open((yield from party.truncate(shared.halved(8), 0)), ["a"]))

    shown = share_out(lambda party: program(party, 1.0)).results["a"]
    wrong = np.abs(shown - 2.0**116) > 2
    assert 0.03 < wrong.mean() < 0.1
    assert truncation_doubt(8, 2.0**116, 1) == 2.0**-3
    with pytest.raises(SharedRangeError, match=r"above 2\^-30"):
        share_out(lambda party: program(party, 2.0**124))


def test_the_doubts_of_many_truncations_add_up():
    def program(party: Party, products: int) -> Steps:
        shared = yield from party.deal("a", own(party, "a", [1.0]), (1,), BITS, 2.0**23.9)
        for _ in range(products):
            yield from party.multiply(shared, shared, fraction_bits=BITS)

    # Each product has a bound of 2^47.8 and 48 fraction bits: three of them exceed 2^-30.
    doubt = share_out(lambda party: program(party, 2)).parties["a"].doubt
    assert doubt == pytest.approx(2 * 2.0**-31.2)
    assert doubt <= MOST_DOUBT < 1.5 * doubt
    with pytest.raises(SharedRangeError, match=r"above 2\^-30"):
        share_out(lambda party: program(party, 3))


def test_results_that_could_wrap_are_refused_and_smaller_ones_are_not():
    require_room(26, 2.0**99)
    with pytest.raises(SharedRangeError, match="larger than the shares carry"):
        require_room(26, 2.0**100)
    with pytest.raises(SharedRangeError):
        require_room(26, float("nan"))
    big = Shared(ring.zeros((1,)), ring.zeros((1,)), 40, 2.0**85)
    assert big.times(-1).bound == 2.0**85
    for too_large in (lambda: big.plus(big), lambda: big.times(2), lambda: big.within(2.0**86)):
        with pytest.raises(SharedRangeError):
            too_large()


def test_nothing_is_sent_before_a_value_beyond_its_bound_is_refused():
    party = Party(NAMES, "a", BINDING)
    begin = party.begin()
    begin_sent = next(begin)
    assert set(begin_sent) == {"c"}
    with pytest.raises(StopIteration):
        begin.send({"b": bytes(32)})
    assert next(party.deal("a", np.array([16.0]), (1,), BITS, 16.0)).keys() == {"b"}
    with pytest.raises(SharedRangeError):
        next(party.deal("a", np.array([16.01]), (1,), BITS, 16.0))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda one, _: one.plus(one.halved(1)),
        lambda one, _: one.plus(one.rows(0, 2)),
        lambda one, _: joined([one, one.halved(1)]),
        lambda one, _: Matrix.of(one),
        lambda one, party: next(party.multiply(one, one.rows(0, 2))),
        lambda one, party: next(party.multiply(one, one, fraction_bits=49)),
        lambda one, party: next(party.multiply(one, one, plus=one)),
        lambda one, party: next(party.truncate(one, 25)),
    ],
)
def test_scales_and_shapes_that_do_not_fit_are_refused(wrong: Any):
    one = Shared(ring.zeros((3,)), ring.zeros((3,)), BITS, 1.0)
    with pytest.raises(SharingError):
        wrong(one, Party(NAMES, "a", BINDING))


@pytest.mark.parametrize(
    "names", [("a", "b"), ("a", "b", "c", "d"), ("a", "b", "b"), ("b", "c", "d")]
)
def test_shares_are_held_by_three(names: tuple[str, ...]):
    with pytest.raises(SharingError, match="three different parties"):
        Party(names, "a", BINDING)


def test_without_keys_nothing_is_shared():
    with pytest.raises(SharingError, match="before `begin`"):
        share_out(lambda party: given_by(party, "a", TABLE), begun=False)


def test_an_owner_without_values_is_refused():
    with pytest.raises(SharingError, match="has none"):
        share_out(lambda party: party.deal("a", None, (3,), BITS, 1.0))


# --- parcels


def product(party: Party) -> Steps:
    x = yield from given_by(party, "a", TABLE)
    z = yield from party.multiply(x, x, fraction_bits=BITS)
    return (yield from party.open(z, NAMES))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1], "bytes, not"),
        (lambda data: data + b"\0", "bytes, not"),
        (lambda _: None, "missing"),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_parcel_that_is_missing_or_of_another_length_is_refused(
    number: int, change: Any, says: str
):
    assert share_out(product).rounds == 5

    def meddle(at: int, _name: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        if at != number:
            return parcels
        changed = {peer: change(data) for peer, data in parcels.items()}
        return {peer: data for peer, data in changed.items() if data is not None}

    with pytest.raises(SharedParcelError, match=says) as refused:
        share_out(product, meddle)
    assert refused.value.party in NAMES


def test_a_parcel_out_of_turn_is_refused():
    def meddle(at: int, name: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {**parcels, "b": b"hello"} if (at, name) == (2, "c") else parcels

    with pytest.raises(SharedParcelError, match="'b' is missing or came out of turn"):
        share_out(product, meddle)
