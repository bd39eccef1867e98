"""What may leave a node when something goes wrong: one fixed word, and no sentence."""

from __future__ import annotations

import pytest

from federated.errors import TaskError
from federated.node.failure import failure_word
from privacy.errors import (
    CapacityError,
    ChildDiedError,
    ChildMemoryError,
    PeersError,
    PointError,
    PrivacyError,
    ThresholdError,
)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (PeersError("of 7"), "bad_parcel"),
        (PointError(), "bad_parcel"),
        (ChildDiedError("of 7"), "child_died"),
        (ChildMemoryError(), "child_died"),
        (CapacityError("of 7"), "task_error"),
        (ThresholdError(), "task_error"),
        (TaskError("out_of_bounds", "of 7"), "out_of_bounds"),
        (TaskError("out_of_order", "of 7"), "task_error"),
        (PrivacyError("of 7"), "internal"),
        (ValueError("of 7"), "internal"),
    ],
)
def test_an_error_is_one_word_outside_of_the_node(error: Exception, word: str):
    assert failure_word(error) == word
