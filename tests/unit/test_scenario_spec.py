import datetime as dt
from pathlib import Path

import pytest

from marketplace.scenario.errors import ScenarioError
from marketplace.scenario.spec import load
from tests.scenarios import write_scenario

DAY_END = 4_102_444_799_999  # 2099-12-31T23:59:59.999Z


def until(folder: Path, value: object) -> int:
    file = write_scenario(folder, lambda it: it["terms"].update(until=value))
    return load(file).providers[0].terms.until


@pytest.mark.parametrize("value", [dt.date(2099, 12, 31), "2099-12-31"])
def test_a_day_lasts_until_it_is_over_with_quotes_and_without(tmp_path: Path, value: object):
    assert until(tmp_path, value) == DAY_END


def test_a_moment_is_exact(tmp_path: Path):
    assert until(tmp_path, "2099-12-31T23:59:59.999Z") == DAY_END


@pytest.mark.parametrize("value", ["", "tomorrow", "2099-13-01", "2099-12-3", 5])
def test_what_is_no_date_is_named(tmp_path: Path, value: object):
    with pytest.raises(ScenarioError, match=r"until is a date such as 2030-12-31"):
        until(tmp_path, value)
