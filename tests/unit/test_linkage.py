import copy
import csv
import pickle
from pathlib import Path

import numpy as np
import pytest

from privacy.errors import LinkageError
from privacy.linkage import (
    CLK_BITS,
    Encodings,
    Field,
    LinkageKey,
    Links,
    Schema,
    _sources,
    encode,
    link,
)

FEBRL = Path(__file__).resolve().parents[3] / "shared" / "data" / "febrl4"
COUNTED = {"given_name": 200, "surname": 200, "date_of_birth": 200}
OTHERS = ["street_number", "address_1", "address_2", "suburb", "postcode", "state"]
FIELDS = tuple(Field(name, bits) for name, bits in (COUNTED | dict.fromkeys(OTHERS, 100)).items())
SMALL = (Field("given", 200), Field("surname", 200), Field("born", 200), Field("town", 100))
HARDENED, PLAIN = Schema(SMALL), Schema(SMALL, spread=1, length=CLK_BITS)
FIXED = LinkageKey.from_secret(bytes(range(32)))
SYLLABLES = [first + second for first in "bcdfghjklmnpqrstvwz" for second in "aeiouy"]


def people(count: int, seed: int = 5) -> list[list[str]]:
    """Made-up records, as columns."""
    rng = np.random.default_rng(seed)
    words = [["".join(rng.choice(SYLLABLES, 3)) for _ in range(count)] for _ in range(3)]
    born = [
        f"19{rng.integers(10, 99)}{rng.integers(1, 12):02}{rng.integers(1, 28):02}"
        for _ in range(count)
    ]
    return [words[0], words[1], born, words[2]]


def misspelled(columns: list[list[str]], seed: int = 6) -> list[list[str]]:
    """The same with one letter of two cells of each row replaced, and now and then one missing."""
    rng = np.random.default_rng(seed)
    changed = [list(cells) for cells in columns]
    for row in range(len(changed[0])):
        for field in rng.choice(4, 2, replace=False):
            cell = changed[field][row]
            at = rng.integers(len(cell))
            changed[field][row] = cell[:at] + "x" + cell[at + 1 :]
        if row % 10 == 0:
            changed[3][row] = ""
    return changed


def shuffled(columns: list[list[str]], seed: int = 7) -> tuple[list[list[str]], np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(columns[0]))
    return [[cells[at] for at in order] for cells in columns], order


def dice(first: np.ndarray, second: np.ndarray) -> float:
    both = int(np.bitwise_count(first & second).sum())
    return 2 * both / int(np.bitwise_count(first).sum() + np.bitwise_count(second).sum())


@pytest.mark.parametrize(("schema", "threshold"), [(HARDENED, 560), (PLAIN, 750)])
def test_misspelled_people_are_found_and_nobody_else(schema: Schema, threshold: int):
    clean = people(300)
    dirty, order = shuffled(misspelled(clean))
    links = link(encode(clean, schema, FIXED), encode(dirty, schema, FIXED), threshold=threshold)
    right = order[links.second] == links.first
    assert right.all()
    assert len(right) >= 0.95 * 300
    # The twin: other people, of whom none is on both sides.
    strangers = encode(people(300, seed=99), schema, FIXED)
    assert len(link(encode(clean, schema, FIXED), strangers, threshold=threshold).first) == 0


def test_another_key_links_nobody():
    clean = people(50)
    here = encode(clean, HARDENED, FIXED)
    assert len(link(here, encode(clean, HARDENED, FIXED), threshold=900).first) == 50
    other = encode(clean, HARDENED, LinkageKey.generate())
    assert len(link(here, other, threshold=700).first) == 0


def words(*bits: int) -> Encodings:
    return Encodings(np.array([[each] for each in bits], np.uint64))


def listed(links: Links) -> list[tuple[int, int, float]]:
    return list(
        zip(links.first.tolist(), links.second.tolist(), links.similarity.tolist(), strict=True)
    )


def test_each_row_is_linked_once_the_most_alike_first_and_ties_by_row():
    here, there = words(0b1111, 0b1111, 0b0011), words(0b0111, 0b1111, 0b1111)
    assert listed(link(here, there, threshold=500)) == [(0, 1, 1.0), (1, 2, 1.0), (2, 0, 0.8)]


def test_a_pair_at_the_threshold_is_linked_and_one_below_is_not():
    here, there = words(0b0011), words(0b0111)
    assert listed(link(here, there, threshold=800)) == [(0, 0, 0.8)]
    assert listed(link(here, there, threshold=801)) == []


@pytest.mark.parametrize("threshold", [0, -1, 1001, 0.8, True])
def test_a_threshold_that_makes_no_sense_is_refused(threshold: int):
    with pytest.raises(LinkageError, match="threshold is"):
        link(words(1), words(1), threshold=threshold)
    assert listed(link(words(1), words(1), threshold=1000)) == [(0, 0, 1.0)]


def test_sides_of_different_length_are_refused():
    with pytest.raises(LinkageError, match="differ in length"):
        link(words(1), Encodings(np.ones((1, 2), np.uint64)), threshold=500)


def test_more_pairs_than_anybody_could_mean_are_refused():
    many = words(*[1] * 65)
    with pytest.raises(LinkageError, match="tells nobody apart"):
        link(many, many, threshold=500)
    most = words(*[1] * 64)
    assert len(link(most, most, threshold=500).first) == 64


def test_encodings_go_to_bytes_and_back():
    sent = encode(people(20), HARDENED, FIXED)
    data = sent.to_bytes()
    assert len(data) == 20 * HARDENED.length // 8
    assert (Encodings.from_bytes(data, count=20, schema=HARDENED).words == sent.words).all()
    for wrong in (data[:-1], data + bytes(512), b""):
        with pytest.raises(LinkageError, match="are not 20 encodings"):
            Encodings.from_bytes(wrong, count=20, schema=HARDENED)
    with pytest.raises(LinkageError, match="0 encodings"):
        Encodings.from_bytes(b"", count=0, schema=HARDENED)
    with pytest.raises(LinkageError, match="row 3 is empty"):
        Encodings.from_bytes(
            data[: 3 * 512] + bytes(512) + data[4 * 512 :], count=20, schema=HARDENED
        )


def test_spelling_that_says_the_same_is_encoded_the_same():
    def encoded(given: str) -> np.ndarray:
        return encode([[given], ["Li"], ["1980"], [""]], HARDENED, FIXED).words

    assert (encoded("  Zoë\tAnn ") == encoded("ＺＯË ann")).all()
    assert (encoded("Zoë Ann") != encoded("Zoe Ann")).any()


def test_the_same_word_in_another_field_sets_other_bits():
    there = encode([["anna"], [""], [""], [""]], PLAIN, FIXED).words[0]
    elsewhere = encode([[""], ["anna"], [""], [""]], PLAIN, FIXED).words[0]
    assert dice(there, elsewhere) < 0.5
    assert dice(there, there) == 1


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ([["a"], ["b"], ["1"]], "one column"),
        ([["a"], ["b"], ["1"], ["x", "y"]], "one column"),
        ([[], [], [], []], "no records"),
        ([["a", ""], ["b", " "], ["1", ""], ["x", "\t"]], "all cells of row 1"),
        ([["a", "x" * 257], ["b"] * 2, ["1"] * 2, ["x"] * 2], "row 1 has a cell"),
        ([["a", "\ufdfa" * 20], ["b"] * 2, ["1"] * 2, ["x"] * 2], "row 1 has a cell"),
        ([["a", "\ud800"], ["b"] * 2, ["1"] * 2, ["x"] * 2], "row 1 has a cell"),
        ([["a", None], ["b"] * 2, ["1"] * 2, ["x"] * 2], "row 1 has a cell"),
    ],
)
def test_records_that_cannot_be_encoded_are_refused(columns: list[list[str]], told: str):
    with pytest.raises(LinkageError, match=told):
        encode(columns, HARDENED, FIXED)


def test_a_schema_goes_to_json_and_back():
    for schema in (HARDENED, PLAIN):
        assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize(
    "change",
    [
        {"fields": []},
        {"fields": [["a", 0]]},
        {"fields": [["a", 513]]},
        {"fields": [["a", 1.5]]},
        {"fields": [["", 5]]},
        {"fields": [["a\n", 5]]},
        {"fields": [["a", 5], ["a", 6]]},
        {"fields": [["a"]]},
        {"fields": "a"},
        {"fields": [[7, 5]]},
        {"fields": [[f"f{n}", 5] for n in range(33)]},
        {"spread": 0},
        {"spread": 17},
        {"spread": 2.0},
        {"spread": 1},
        {"length": 100},
        {"length": 0},
        {"length": 8256},
        {"length": True},
        {"more": 1},
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(change: dict[str, object]):
    good = {"fields": [["a", 5], ["b", 6]], "spread": 3, "length": 4096}
    with pytest.raises(LinkageError):
        Schema.from_json(good | change)
    assert Schema.from_json(good).fields[1].bits == 6


def test_different_schemas_have_different_digests_and_encodings():
    several = [
        HARDENED,
        PLAIN,
        Schema(SMALL[:3]),
        Schema(SMALL[::-1]),
        Schema((*SMALL[:3], Field("town", 101))),
        Schema((*SMALL[:3], Field("city", 100))),
        Schema(SMALL, spread=2),
        Schema(SMALL, length=2048),
    ]
    assert len({schema.digest for schema in several}) == len(several)


def test_each_bit_is_made_of_different_bits_of_the_clk_that_the_key_chooses():
    sources = _sources(HARDENED, FIXED)
    assert sources.shape == (4096, 3)
    assert all(len(set(row)) == 3 for row in sources.tolist())
    # Each of the 1024 bits is used 12 times on average, and none is left out or preferred.
    used = np.bincount(sources.ravel(), minlength=CLK_BITS)
    assert used.min() > 0
    assert used.max() < 40
    assert (_sources(HARDENED, LinkageKey.generate()) != sources).any()
    assert (_sources(HARDENED, FIXED) == sources).all()


def test_a_key_is_not_copied_and_not_shown():
    key = LinkageKey.generate()
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(LinkageError):
            attempt(key)
    assert repr(key.raw_secret_bytes()) not in repr(key)
    assert LinkageKey.from_secret(key.raw_secret_bytes()).raw_secret_bytes()
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(LinkageError, match="has 32 bytes"):
            LinkageKey.from_secret(wrong)


def test_a_guessed_record_is_found_with_the_key_and_not_without():
    # What the key protects: whoever has it encodes guesses, and compares.
    held = encode(people(40), HARDENED, FIXED)
    guess = [[cells[17]] for cells in people(40)]
    found = link(encode(guess, HARDENED, FIXED), held, threshold=1000)
    assert found.second.tolist() == [17]
    blind = encode(guess, HARDENED, LinkageKey.generate())
    assert len(link(blind, held, threshold=700).first) == 0


def always_set(schema: Schema, surname: str, count: int = 60) -> int:
    """How many bits all encodings of one surname have in common."""
    columns = people(count)
    columns[1] = [surname] * count
    common = np.bitwise_and.reduce(encode(columns, schema, FIXED).words, axis=0)
    return int(np.bitwise_count(common).sum())


def test_a_frequent_name_shows_as_bits_that_are_always_set_and_hardly_after_diffusion():
    # The twin is the CLK itself: the bits of a shared surname stand out of all encodings at once,
    # which is what pattern mining starts from.
    assert always_set(PLAIN, "gallagher") > 120
    assert always_set(HARDENED, "gallagher") * PLAIN.length < 0.3 * 120 * HARDENED.length


def test_equal_records_have_equal_encodings_and_this_shows():
    # What CLAIMS.md says the linkage node learns: how often each record occurs.
    columns = people(10)
    repeated = [[*cells, cells[3], cells[3]] for cells in columns]
    rows = encode(repeated, HARDENED, FIXED).to_bytes()
    width = HARDENED.length // 8
    seen = [rows[at : at + width] for at in range(0, len(rows), width)]
    assert [seen.count(each) for each in seen] == [1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 3, 3]
    # Under another key they are others, so that jobs do not add up.
    again = encode(repeated, HARDENED, LinkageKey.generate()).to_bytes()
    assert not {again[at : at + width] for at in range(0, len(rows), width)} & set(seen)


def febrl(name: str) -> tuple[list[str], list[list[str]]]:
    if not FEBRL.is_dir():
        pytest.skip("the data set febrl4 is not here")
    with (FEBRL / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    people = [row["rec_id"].split("-")[1] for row in rows]
    return people, [[row[each.name] for row in rows] for each in FIELDS]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "threshold"),
    [(Schema(FIELDS), 560), (Schema(FIELDS, spread=1, length=CLK_BITS), 800)],
)
def test_febrl_registries_are_linked_as_well_as_is_published(schema: Schema, threshold: int):
    # Published for clkhash and anonlink at 0.8: precision 1.000, recall 0.992.
    (people, here), (others, there) = febrl("dataset4a.csv"), febrl("dataset4b.csv")
    links = link(encode(here, schema, FIXED), encode(there, schema, FIXED), threshold=threshold)
    right = sum(
        people[row] == others[other]
        for row, other in zip(links.first.tolist(), links.second.tolist(), strict=True)
    )
    assert right == len(links.first)
    assert right >= 0.99 * 5000
