"""Whose job is next: the rule alone, without a database."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.jobs.queue import Waiting, choose

MOST = 4


@pytest.mark.parametrize(
    ("waiting", "chosen"),
    [
        ([], None),
        ([Waiting("a", 0, -1, 5)], "a"),
        # The fewest running jobs, whoever waits longer.
        ([Waiting("a", 1, -1, 1), Waiting("b", 0, 90, 9)], "b"),
        # Then who was served least recently, whoever's job is older.
        ([Waiting("a", 1, 80, 1), Waiting("b", 1, 70, 9)], "b"),
        # Then the oldest job.
        ([Waiting("a", 0, -1, 9), Waiting("b", 0, -1, 8)], "b"),
        # Whoever has as many as one may have is passed over.
        ([Waiting("a", MOST, -1, 1)], None),
        ([Waiting("a", MOST, -1, 1), Waiting("b", MOST - 1, 90, 9)], "b"),
    ],
)
def test_the_rule(waiting: list[Waiting], chosen: str | None):
    assert choose(waiting, MOST) == chosen
    assert choose(reversed(waiting), MOST) == chosen


@given(
    jobs=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    workers=st.integers(1, 6),
    most=st.integers(1, 3),
)
def test_nobody_waits_for_more_than_one_job_of_anybody_else(
    jobs: list[int], workers: int, most: int
):
    """Simulated: all jobs are there from the beginning, and each runs for one step."""
    left = Counter(str(each) for each in jobs)
    served = dict.fromkeys(left, -1)
    time, order = 0, list[str]()
    while left:
        running = Counter[str]()
        for _ in range(workers):
            waiting = [Waiting(name, running[name], served[name], 0) for name in left]
            chosen = choose(waiting, most)
            if chosen is None:
                break
            time += 1
            served[chosen] = time
            running[chosen] += 1
            order.append(chosen)
            left -= Counter([chosen])
        assert max(running.values()) <= most
    assert Counter(order) == Counter(str(each) for each in jobs)
    for name in served:
        places = [place for place, each in enumerate(order) if each == name]
        for place, following in zip([-1, *places], places, strict=False):
            between = Counter(order[place + 1 : following])
            assert all(count <= most for count in between.values()), order
