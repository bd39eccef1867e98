"""Writing a log to a folder: complete, or refused before anything is written."""

from pathlib import Path

import pytest

from ledger import note
from ledger.entry import Opening
from ledger.errors import ExportError
from ledger.export import Extras, export
from ledger.log import Log
from ledger.manifest import (
    CLAIMED_KEY,
    FILE,
    FILES,
    MAX_FILE,
    OPENED,
    SPANS,
    Contents,
    Span,
    read_manifest,
    read_tables,
)
from ledger.tiles import layout
from ledger.verify import verify
from tests.drafts import key_of
from tests.forgery import read_files
from tests.world import World, fixed_salts


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_one_use(tmp_path_factory.mktemp("world"), 2)


def contents_of(files: dict[str, bytes], world: World) -> Contents:
    text = note.open_note(files[FILE], [world.log.vkey]).text
    return read_tables(read_manifest(text), files[FILES], files[SPANS])


def test_an_export_is_the_listed_files_and_nothing_else(world: World, tmp_path: Path):
    files = read_files(world.export(tmp_path / "x", opened=[0, 1, 2, 5]))
    contents = contents_of(files, world)
    assert contents.openness.spans(OPENED) == (Span(0, 3), Span(5, 6))
    assert {*contents.files, FILE, FILES, SPANS} == set(files)
    assert {tile.path for tile in layout(world.log.size)} < set(files)
    assert files[CLAIMED_KEY].decode() == world.log.vkey.text + "\n"
    assert len(files["openings/000"].splitlines()) == 4
    verdict = verify(tmp_path / "x", world.log.vkey)
    assert (verdict.status, verdict.sealed, verdict.unchecked) == ("sound", world.log.size - 4, 1)


def test_two_exports_of_one_log_are_the_same_bytes(world: World, tmp_path: Path):
    first, second = (read_files(world.export(tmp_path / name)) for name in ("a", "b"))
    assert first == second


def test_two_logs_of_the_same_facts_differ_by_their_salts_alone(tmp_path: Path):
    worlds = []
    for number in range(2):
        with fixed_salts():
            worlds.append(World.with_one_use(tmp_path / f"fixed{number}", 2))
    fixed = [read_files(item.export(item.folder / "x")) for item in worlds]
    assert fixed[0] == fixed[1]
    salted = World.with_one_use(tmp_path / "salted", 2)
    assert read_files(salted.export(tmp_path / "x")) != fixed[0]
    assert [item.envelope for item in salted.openings()] == [
        item.envelope for item in worlds[0].openings()
    ]


def test_no_sealed_statement_is_in_the_folder(world: World, tmp_path: Path):
    everything = b"".join(read_files(world.export(tmp_path / "open")).values())
    sealed = b"".join(read_files(world.export(tmp_path / "sealed", opened=[])).values())
    for opening in world.openings():
        line = opening.to_bytes()
        assert line in everything
        assert line not in sealed
        # Neither the statement nor its salt, in the form that openings have them.
        assert line[line.index(b'"salt"') :] not in sealed


class Older:
    """A log that shows an older checkpoint than all that it has."""

    def __init__(self, log: Log, checkpoint: bytes) -> None:
        self.log = log
        self.signed = checkpoint
        self.vkey = log.vkey

    def checkpoint(self) -> bytes:
        return self.signed

    def tile(self, path: str) -> bytes:
        return self.log.tile(path)

    def openings(self, start: int, stop: int) -> list[Opening]:
        return self.log.openings(start, stop)


def test_what_is_beyond_the_checkpoint_is_left_out(tmp_path: Path):
    world = World(tmp_path / "world", 1)
    size, older = world.log.size, Older(world.log, world.log.checkpoint())
    world.put(world.job())
    export(older, world.log_key, tmp_path / "x", opened=range(size + 5), scope="x", now=0)
    verdict = verify(tmp_path / "x", world.log.vkey)
    assert (verdict.status, verdict.size) == ("sound", size)


def test_nothing_is_overwritten(world: World, tmp_path: Path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("taken", "file"):
        with pytest.raises(ExportError, match="is not an empty folder"):
            world.export(tmp_path / name)
    assert read_files(tmp_path) == {"taken/mine": b"mine", "file": b"mine"}
    # The twin: an empty folder will do.
    (tmp_path / "empty").mkdir()
    assert verify(world.export(tmp_path / "empty"), world.log.vkey).status == "sound"


def test_another_key_exports_nothing(world: World, tmp_path: Path):
    with pytest.raises(ExportError, match="is not the key of this log"):
        export(world.log, key_of("other.example"), tmp_path / "x", opened=[], scope="x", now=0)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("scope", ["", "two\nlines"])
def test_a_scope_that_the_manifest_cannot_hold(world: World, tmp_path: Path, scope: str):
    with pytest.raises(ExportError, match="cannot be one export"):
        world.export(tmp_path / "x", scope=scope)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_is_named(world: World, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written: Not a directory"):
        world.export(tmp_path / "file" / "below")


def test_what_cannot_be_one_file_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for number, (extras, message) in enumerate(
        (
            (Extras(sealed={5: b"two\nlines"}), "one line"),
            (Extras(sealed={5: b""}), "one line"),
            (Extras(journals=(b"x" for _ in range(1001))), "more than 1000 files in journals"),
            (Extras(tag_keys=bytes(MAX_FILE + 1)), "tag-keys would be too long"),
            (Extras(erased=[0]), "cannot be one export"),
        )
    ):
        path = tmp_path / str(number)
        with pytest.raises(ExportError, match=message):
            world.export(path, [0, 1], extras=extras)
        # Whatever was written until then is no export.
        assert not (path / FILE).exists()
    monkeypatch.setattr("ledger.export.MAX_TOTAL", 5000)
    with pytest.raises(ExportError, match="too long for one export"):
        world.export(tmp_path / "all")


class Forgetful(Older):
    """A log that keeps no statement."""

    def openings(self, start: int, stop: int) -> list[Opening]:
        return super().openings(start, stop)[1:]


def test_a_statement_that_is_not_kept_is_named(world: World, tmp_path: Path):
    log = Forgetful(world.log, world.log.checkpoint())
    with pytest.raises(ExportError, match="entry 0 is not kept any more"):
        export(log, world.log_key, tmp_path / "x", opened=[0, 1], scope="x", now=0)
    extras = Extras(erased=[0])
    export(log, world.log_key, tmp_path / "y", opened=[], scope="x", now=0, extras=extras)
    assert verify(tmp_path / "y", world.log.vkey).erased == 1


def test_what_an_export_may_carry(world: World, tmp_path: Path):
    extras = Extras(
        sealed={3: b"three", 1: b"one", 999: b"beyond"},
        tag_keys=b"",
        journals=[b"first", b"second"],
        succession=[],
    )
    files = read_files(world.export(tmp_path / "x", [0], extras=extras))
    assert files["sealed/000"] == b"one\nthree\n"
    assert (files["journals/000"], files["journals/001"]) == (b"first", b"second")
    assert files["tag-keys"] == b""
    assert files[SPANS] == b"opened 0 1\nsealed 1 2\nsealed 3 4\n"
    verdict = verify(tmp_path / "x", world.log.vkey)
    assert (verdict.status, verdict.enclosed) == ("sound", 2)
