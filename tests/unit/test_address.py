"""Where a home finds its service: at the address it names, or where its market is served."""

from pathlib import Path

import pytest

from federated.address import ADDRESS, IN_PROCESS, address_of, served_at
from federated.errors import NodeError

ELSEWHERE = "https://market.example"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "parties" / "lab"
    path.mkdir(parents=True)
    return path


def test_a_home_keeps_the_address_it_names(home: Path):
    assert address_of(home, ELSEWHERE) == ELSEWHERE


def test_a_market_that_is_served_on_this_machine_says_where(home: Path, tmp_path: Path):
    (tmp_path / ADDRESS).write_text("http://127.0.0.1:9\n")
    assert served_at(tmp_path) == "http://127.0.0.1:9"
    assert address_of(home, IN_PROCESS) == "http://127.0.0.1:9"
    assert address_of(home, ELSEWHERE) == "http://127.0.0.1:9"


def test_a_market_that_nobody_serves_is_named(home: Path, tmp_path: Path):
    assert served_at(tmp_path) is None
    with pytest.raises(NodeError, match=f"rongshu serve --embedded {tmp_path}"):
        address_of(home, IN_PROCESS)
