"""The world's own example runs, and a copy of a world is a world of its own."""

import inspect
from pathlib import Path

import pytest

from ledger.verify import Verdict, verify
from tests import world as module
from tests.world import World


def test_the_example_in_the_docstring_runs(tmp_path: Path):
    lines = inspect.getdoc(module)
    assert lines is not None
    example = lines.split("\n\n")[1]
    names: dict[str, object] = {"World": World, "verify": verify, "tmp_path": tmp_path}
    exec(inspect.cleandoc(example), names)  # noqa: S102 - our own docstring
    verdict = names["verdict"]
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.checked["revocation"]) == ("sound", 1)


@pytest.mark.parametrize("providers", [1, 2, 4])
def test_a_whole_life_is_sound_for_any_number_of_providers(tmp_path: Path, providers: int):
    world = World.with_one_use(tmp_path, providers)
    assert world.use is not None
    assert len(world.use.receipts) == providers
    assert world.audit().status == "sound"


def test_a_copy_goes_its_own_way(tmp_path: Path):
    world = World(tmp_path / "one", 2)
    size = world.log.size
    twin = world.copy(tmp_path / "two")
    twin.one_use()
    assert (world.log.size, twin.log.history.released != {}) == (size, True)
    world.put(world.job())
    assert (world.log.size, world.log.history.released) == (size + 1, {})
