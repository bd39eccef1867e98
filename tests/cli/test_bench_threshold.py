"""The bench of opening together: its rows, on the smaller key."""

import pytest

from bench import __main__ as harness
from bench import privacy_threshold


@pytest.mark.slow
def test_a_row_opens_the_same_words_both_ways():
    (row,) = privacy_threshold.rows(quick=True)
    assert row.name == "threshold opening 2048"
    assert row.details["error"] == "none, integers"
    assert row.details["words a ciphertext"] == 30
    # Two exponentiations by long public numbers for each of two holders, against two short ones.
    assert row.ratio is not None
    assert 0 < row.ratio < 1


def test_it_is_a_part_of_another_bench():
    assert "privacy_threshold" not in harness.find_benches()
