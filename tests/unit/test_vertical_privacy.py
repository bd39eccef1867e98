"""What one party of a shared fit can find of another's column, from all that it sees.

The attacker regresses the column, row by row, on every number that it was sent or made of its own
keys, and is judged on rows that it did not learn from. It must do no better than with the same
numbers of shuffled rows; its twins, without the streams that hide, and two parties together, must
find the column.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from federated.errors import TaskError
from federated.tasks import vertical
from federated.tasks.joint import Place
from privacy.replicated import ring
from privacy.replicated.party import Party
from privacy.replicated.shared import Shared
from tests.joint import BINDING, converse, csv_text, staged
from tests.verticals import COMMON, A, B, C, people, pooled, ready, result, tables, task

COUNT = 800
"""Rows: half of them to learn from, three or more for each number that is seen of a row."""

CHANCE = 0.2
"""Correlation on 400 rows that chance exceeds once in 10^4."""

COLUMN = np.random.default_rng(11).normal(size=COUNT)
"""What B has and nobody else is to find."""


class Seen:
    """All that each party has in the end: what it was sent, and its components of blocks."""

    def __init__(self) -> None:
        self.parcels: dict[str, list[bytes]] = {A: [], B: [], C: []}
        self.dealt: dict[str, list[Shared]] = {A: [], B: [], C: []}

    def row_by_row(self, party: str) -> Any:
        """Every number that is one of a row, float64[COUNT, m]."""
        found = []
        for data in self.parcels[party]:
            found += [*_as_elements(data), *_as_bits(data)]
        for shared in self.dealt[party]:
            found += [_readings(part) for part in (shared.first, shared.second)]
        return np.hstack(found)


def _as_elements(data: bytes) -> list[Any]:
    """A parcel's elements by rows, once or twice as many as rows; nothing if it has others."""
    for blocks in (1, 2):
        width, rest = divmod(len(data), blocks * COUNT * ring.ELEMENT_BYTES)
        if width and not rest:
            return [_readings(part) for part in ring.from_bytes(data, (blocks, COUNT, width))]
    return []


def _as_bits(data: bytes) -> list[Any]:
    """A parcel's bits of twice as many numbers as rows, as numbers; nothing if it has others."""
    width, rest = divmod(len(data), 2 * COUNT // 8)
    if rest or not 0 < width <= 64:
        return []
    planes = np.frombuffer(data, np.uint8).reshape(width, -1)
    bits = np.unpackbits(planes, axis=1, bitorder="little").astype(np.float64)
    numbers = 2.0 ** -np.arange(width)[::-1] @ bits
    return [numbers[:COUNT, None], numbers[COUNT:, None]]


def _readings(elements: Any) -> Any:
    """Both words of each element as numbers of ordinary size, float64[COUNT, m]."""
    flat = elements.reshape(COUNT, -1, 2)
    words = np.ascontiguousarray(flat).view(np.int64).astype(np.float64)
    # Small numbers stand in the last bits of a word, and large ones in the first.
    return np.sign(words.reshape(COUNT, -1)) * np.log1p(np.abs(words.reshape(COUNT, -1)))


@lru_cache
def played(*, masked: bool = True) -> Seen:
    """One job, with the streams that hide or without them."""
    seen, deal = Seen(), Party.deal_elements

    def kept(self: Party, *given: Any) -> Any:
        shared = yield from deal(self, *given)
        seen.dealt[self.names[self.place]].append(shared)
        return shared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Party, "deal_elements", kept)
        if not masked:
            patch.setattr(Party, "noise", lambda _self, _at, words: np.zeros(words, np.uint64))
        _play(seen)
    return seen


def _play(seen: Seen) -> None:
    generator = np.random.default_rng(12)
    late = (COLUMN + generator.normal(size=COUNT) > 0) * 1
    own = generator.normal(size=COUNT)
    ids = [f"p{at:05}" for at in range(COUNT)]
    texts = {
        A: csv_text([{"id": name, "own": each} for name, each in zip(ids, own, strict=True)]),
        B: csv_text(
            [
                {"id": name, "secret": each, "late": label.item()}
                for name, each, label in zip(ids, COLUMN, late, strict=True)
            ]
        ),
        C: csv_text([{"other": at} for at in range(3)]),
    }
    match = {"columns": {"id": []}, "minimum_size": 2, "minimum_intersection": 2, "monthly": 1}
    plan, rows = staged(
        task(),
        texts,
        {"match": match},
        columns=["own", "secret"],
        label="late",
        computes="third",
        steps=2,
        step="1",
    )
    talks = {asset: task().take_part(plan, Place(asset, BINDING), rows[asset]) for asset in rows}
    arrived: dict[str, Any] = dict.fromkeys(talks)
    parts: set[str] = set()
    number = 0
    while len(parts) < len(talks):
        number, sent = number + 1, {}
        for asset, talk in talks.items():
            if asset in parts:
                continue
            try:
                sent[asset] = dict(talk.send(arrived[asset]))
            except StopIteration:
                parts.add(asset)
        for asset in talks:
            arrived[asset] = {peer: each[asset] for peer, each in sent.items() if asset in each}
            # The points of the intersection, which come first, are of no column.
            if number > 6:
                seen.parcels[asset] += arrived[asset].values()


def correlation(numbers: Any, column: Any) -> float:
    """How near a regression learned on half of the rows comes to the column on the other half."""
    numbers = (numbers - numbers.mean(axis=0)) / (numbers.std(axis=0) + 1e-12)
    numbers = np.column_stack([np.ones(len(numbers)), numbers])
    half = len(column) // 2
    fitted, *_ = np.linalg.lstsq(numbers[:half], column[:half], rcond=1e-10)
    guessed = numbers[half:] @ fitted
    return float(abs(np.corrcoef(guessed, column[half:])[0, 1])) if np.ptp(guessed) else 0.0


@pytest.mark.parametrize("attacker", [A, C])
def test_one_party_finds_nothing_of_anothers_column(attacker: str):
    numbers = played().row_by_row(attacker)
    assert numbers.shape[1] > 40
    shuffled = np.random.default_rng(1).permutation(COUNT)
    assert correlation(numbers, COLUMN) < CHANCE
    assert correlation(numbers[shuffled], COLUMN) < CHANCE


@pytest.mark.parametrize("attacker", [A, C])
def test_without_streams_one_party_finds_it(attacker: str):
    numbers = played(masked=False).row_by_row(attacker)
    shuffled = np.random.default_rng(1).permutation(COUNT)
    assert correlation(numbers, COLUMN) > 0.85
    assert correlation(numbers[shuffled], COLUMN) < CHANCE


@pytest.mark.parametrize(("first", "second"), [(A, C), (C, A)])
def test_two_parties_that_join_what_they_see_have_the_column(first: str, second: str):
    """The assumption of three-party shares: no two of them collude."""
    # A deals its block first, B the second: its intercept and the secret.
    mine, theirs = (played().dealt[party][1] for party in (first, second))
    assert mine.shape == (COUNT, 2)
    parts = {tuple(part[0].ravel()): part for each in (mine, theirs) for part in _components(each)}
    total = ring.zeros(mine.shape)
    for part in parts.values():
        total = ring.add(total, part)
    found = ring.decode(total, mine.fraction_bits)[:, 1]
    scaled = (COLUMN - COLUMN.mean()) / COLUMN.std(ddof=1)
    assert np.abs(found - scaled).max() < 1e-6


def _components(shared: Shared) -> tuple[Any, Any]:
    return shared.first, shared.second


# --- what the answer itself shows


def one_step(monkeypatch: pytest.MonkeyPatch | None, given: Any, **parameters: Any) -> Any:
    """The coefficients after one step; with a patch, the check of few rows is off."""
    if monkeypatch is not None:
        monkeypatch.setattr(vertical, "FEWEST_EFFECTIVE_ROWS", 0.0)
    plan, rows = ready(given, steps=1, step="1", **parameters)
    return result(plan, converse(task(), plan, rows))["coefficients"]


def test_a_limit_that_one_person_exceeds_shows_that_persons_columns_and_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    debts = people()["debt"]
    top = max(COMMON, key=lambda at: debts[at])
    limit = str(sorted(debts[list(COMMON)])[-2])
    with pytest.raises(TaskError, match="'debt' differs from its mean in a few") as refused:
        one_step(None, None, label="debt", above=limit)
    assert refused.value.reason == "isolating_parameters"
    # The twin, without the check: one step from zero is the sum over those above the limit.
    shown = one_step(monkeypatch, None, label="debt", above=limit)
    row = pooled(["age", "rent"])[top - COMMON.start, 1:]
    assert np.abs(np.array([shown["age"], shown["rent"]]) * len(COMMON) - row).max() < 0.05


def test_a_column_that_marks_one_person_shows_that_persons_label_and_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    for marked in (30, 31):
        given = tables(age=(np.arange(120) == marked) * 1.0)
        with pytest.raises(TaskError, match="'age' differs from its mean in a few"):
            one_step(None, given)
    # The twin: whose label is 1 has a positive coefficient, by far.
    late = people()["late"]
    for marked in COMMON[:6]:
        given = tables(age=(np.arange(120) == marked) * 1.0)
        assert (one_step(monkeypatch, given)["age"] > 0) == bool(late[marked])


def test_scores_less_ones_own_part_are_the_others_weighted_sum_for_each_person():
    """What the job's parameter `scores` says is shown; without it there are none."""
    plan, rows = ready(steps=2, step="1", scores="label")
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vertical, "metrics", lambda _model, scores, _labels: seen.append(scores))
        parts = converse(task(), plan, rows)
    own, others = (parts[asset].report["coefficients"] for asset in (B, A))
    # In the common order of the identifiers, which both owners have.
    names = [rows[B].texts("id", "train")[at] for at in parts[B].kept]
    order = [int(name[1:]) - COMMON.start for name in names]
    x = pooled(["age", "rent", "loans"])[order]
    rest = seen[0] - own["intercept"] - x[:, 3] * own["loans"]
    assert np.abs(rest - x[:, 1:3] @ list(others.values())).max() < 1e-5
    assert abs(np.corrcoef(rest, x[:, 1])[0, 1]) < 0.999
