"""One served market for the whole run; each test adds to it and takes nothing away."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.audit import command
from tests.served import Served, serving, small_market


@dataclass
class ServedMarket:
    """A market on one machine, served by another process."""

    folder: Path
    served: Served


@pytest.fixture(scope="session", name="market_on_disk")
def _market_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_market(tmp_path_factory.mktemp("small") / "market")


@pytest.fixture(scope="session")
def market(market_on_disk: Path) -> Iterator[ServedMarket]:
    with serving("--embedded", market_on_disk) as served:
        yield ServedMarket(market_on_disk, served)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `rongshu audit` in this process; return its exit code and what it printed."""

    def ended(*arguments: object) -> tuple[int, str, str]:
        code = command([str(item) for item in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return ended
