"""`rongshu audit non-use` and `verify --views`: files, exit codes and what is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.export import Extras
from ledger.sealing import SealedOpenings, ViewKeys, public
from ledger.use_index import write_tag_keys
from tests.drafts import key_of, tag_key_of
from tests.world import World

Run = Callable[..., tuple[int, str, str]]
LENGTH = 16


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"), providers=3, terms={"minimum_parties": 2})
    world.put(world.schedule(epoch_entries=LENGTH))
    while world.log.size % LENGTH:
        world.put(world.offer(world.providers[0]))
    everybody = world.providers
    world.providers = everybody[1:]
    world.one_use()
    world.providers = everybody
    while world.log.size % LENGTH:
        world.put(world.offer(world.providers[0]))
    world.close_epochs()
    return world


@pytest.fixture(scope="module")
def keys(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "tag-keys"
    found = {item.asset: tag_key_of(item.name) for item in world.providers}
    path.write_bytes(write_tag_keys(found))
    return path


@pytest.fixture(scope="module")
def folder(world: World, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    extras = Extras(tag_keys=keys.read_bytes())
    return world.export(tmp_path_factory.mktemp("open") / "export", extras=extras)


@pytest.fixture(scope="module")
def sealed(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An export that seals all but what is public, and the keys to it."""
    shown, base = public(world.log.history), tmp_path_factory.mktemp("sealed")
    view_keys = ViewKeys(world.engine)
    rest = set(range(world.log.size)) - set(shown)
    extras = Extras(sealed=SealedOpenings(world.log, view_keys, rest))
    view_keys.views(world.log).save(base / "views")
    return world.export(base / "export", shown, extras=extras), base / "views"


@pytest.fixture
def make(
    run: Run, world: World, folder: Path, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    def made(*more: object, asset: str = "", epoch: int = 1, source: Path = folder) -> object:
        named = asset or world.providers[0].asset
        out = ("--out", tmp_path / "proof")
        return run("non-use", "make", source, "--asset", named, "--epoch", epoch, *out, *more)

    return made  # type: ignore[return-value]


def test_an_unused_asset_is_shown_and_the_file_checked(
    run: Run, make: Run, world: World, tmp_path: Path
):
    key = world.log.vkey.text
    code, out, _ = make("--key", key)
    assert (code, "was not used in epoch 1" in out) == (0, True)
    code, out, _ = run("non-use", "check", tmp_path / "proof", "--key", key)
    assert code == 0
    assert out.startswith("SHOWN")
    code, out, _ = run("non-use", "check", tmp_path / "proof", "--key", key, "--json")
    told = json.loads(out)
    assert (told["name"], told["epoch"], told["assets_used"]) == (
        f"heart disease, {world.providers[0].name}",
        1,
        2,
    )


def test_an_asset_is_found_by_its_name(make: Run, world: World):
    code, out, _ = make("--json", asset=f"heart disease, {world.providers[0].name}")
    assert code == 0
    assert json.loads(out)["asset"] == world.providers[0].asset


def test_a_used_asset_is_not_shown(make: Run, world: World, tmp_path: Path):
    code, _, err = make(asset=world.providers[1].asset)
    assert code == 1
    assert "was used in epoch 1" in err
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"asset": "nobody's"}, "opens 0 assets"), ({"epoch": 9}, "is not indexed")],
)
def test_what_is_not_there_is_lacking(make: Run, changed: dict[str, object], message: str):
    code, _, err = make(**changed)
    assert code == 2
    assert message in err


def test_another_key_does_not_vouch_for_it(run: Run, make: Run, tmp_path: Path):
    stranger = key_of("another.example/log").verify_key.text
    assert make("--key", stranger)[0] == 3
    assert make()[0] == 0
    assert run("non-use", "check", tmp_path / "proof", "--key", stranger)[0] == 3


def test_a_changed_file_is_refused(run: Run, make: Run, world: World, tmp_path: Path):
    make()
    path = tmp_path / "proof"
    path.write_bytes(path.read_bytes().replace(b'"epoch":1', b'"epoch":2', 1))
    code, out, _ = run("non-use", "check", path, "--key", world.log.vkey.text, "--json")
    assert code == 1
    assert json.loads(out)["exit_code"] == 1


def test_a_sealed_export_needs_views_and_tag_keys(make: Run, sealed: tuple[Path, Path], keys: Path):
    folder, views = sealed
    assert make(source=folder)[0] == 2
    assert make("--tag-keys", keys, source=folder)[0] == 2
    assert make("--tag-keys", keys, "--views", views, source=folder)[0] == 0


def test_a_folder_or_file_that_is_none_is_wrong_usage(run: Run, tmp_path: Path):
    nothing = tmp_path / "nothing"
    out = ("--asset", "a", "--epoch", 0, "--out", tmp_path / "x")
    assert run("non-use", "make", nothing, *out)[0] == 64
    assert run("non-use", "check", nothing, "--key", "k")[0] == 64


# verify --views


def test_verify_opens_what_is_sealed(run: Run, world: World, sealed: tuple[Path, Path]):
    folder, views = sealed
    arguments = ("verify", folder, "--key", world.log.vkey.text, "--processes", 1)
    code, out, _ = run(*arguments)
    assert code == 0
    assert "are enclosed encrypted" in out
    code, out, _ = run(*arguments, "--views", views)
    assert code == 0
    assert "sealed:  0 of" in out
    assert "enclosed" not in out


def test_views_that_anybody_can_read_or_that_lie_in_the_export_are_refused(
    run: Run, world: World, sealed: tuple[Path, Path], tmp_path: Path
):
    folder, views = sealed
    loose = tmp_path / "views"
    loose.write_bytes(views.read_bytes())
    loose.chmod(0o644)
    code, _, err = run("verify", folder, "--key", world.log.vkey.text, "--views", loose)
    assert code == 64
    assert "others can reach it" in err
    code, _, err = run("verify", folder, "--views", folder / "views")
    assert code == 64
    assert "keep it apart" in err
