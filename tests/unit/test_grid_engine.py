"""What the service tells of an exchange, from what it hears of one node after the other."""

import pytest

from federated import coordinator
from marketplace.jobs.engine import Progress
from marketplace.jobs.grid_engine import _Counter

ONE, TWO, THREE = ASSETS = ("asset:1", "asset:2", "asset:3")


def told(*heard: tuple[int, str, str, str]) -> list[Progress]:
    found: list[Progress] = []
    counter = _Counter(ASSETS, found.append)
    for each in heard:
        counter(coordinator.Progress(*each))
    return found


def test_each_node_heard_is_one_more_that_answered():
    first, second = told((1, "moments", ONE, "answered"), (1, "moments", TWO, "answered"))
    waiting = {ONE: "answered", TWO: "waiting", THREE: "waiting"}
    assert first == Progress(1, 1, 3, "moments", waiting)
    assert second == Progress(1, 2, 3, "moments", waiting | {TWO: "answered"})


def test_in_the_next_exchange_all_are_waited_for_again():
    *_, last = told(
        (1, "moments", ONE, "answered"),
        (1, "moments", TWO, "answered"),
        (2, "moments", THREE, "answered"),
    )
    states = {ONE: "waiting", TWO: "waiting", THREE: "answered"}
    assert last == Progress(2, 1, 3, "moments", states)


@pytest.mark.parametrize("state", ["refused", "failed", "lost"])
def test_who_did_not_answer_stays_so_until_more_is_heard(state: str):
    seen = told(
        (1, "moments", ONE, state),
        (1, "moments", TWO, "answered"),
        (1, "finish", TWO, "answered"),
        (2, "moments", ONE, "rejoining"),
        (2, "moments", ONE, "answered"),
    )
    assert [each.nodes[ONE] for each in seen] == [state, state, state, "rejoining", "answered"]
    assert [each.done for each in seen] == [0, 1, 1, 0, 1]


def test_progress_without_nodes_is_as_it_was():
    assert Progress(1, 2, 3, "moments").nodes == {}
