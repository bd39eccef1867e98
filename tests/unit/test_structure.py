"""Hashes, tiles, root and chain alone, and what is said of an export by them alone."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.checkpoint import Checkpoint
from ledger.checkpoint import sign as sign_checkpoint
from ledger.entry import NO_PREDECESSOR, Entry
from ledger.errors import EncodingError
from ledger.finding import Report
from ledger.folder import Folder
from ledger.manifest import (
    CHECKPOINT,
    FILE,
    FILES,
    SPANS,
    Contents,
    Manifest,
    Openness,
    Table,
    read_tables,
)
from ledger.merkle import Tree, leaf_hash, root
from ledger.structure import Structure, bundle_count, check_bundle
from ledger.tiles import Tile, encode_bundle, layout, tile_bytes
from ledger.verify import Plan, Verdict, verify
from tests.drafts import START, key_of
from tests.forgery import insecure_manifest, read_files, write_files
from tests.world import LOG_NAME

KEY = key_of(LOG_NAME)
ONLY = Plan(structure_only=True)
SIZE = 1300  # five full bundles and a partial one


def entries_of(size: int) -> list[bytes]:
    raw: list[bytes] = []
    previous = NO_PREDECESSOR
    for index in range(size):
        references = (index - 1, None, 0) if index else ()
        entry = Entry(index, previous, START + index, "receipt", references, bytes(32))
        raw.append(entry.to_bytes())
        previous = leaf_hash(raw[-1])
    return raw


def write(path: Path, raw: Sequence[bytes], changed: dict[str, bytes] | None = None) -> Path:
    """An export of closed entries, consistent in itself, whatever they are."""
    tree = Tree.from_leaf_hashes(leaf_hash(item) for item in raw)
    files = {
        CHECKPOINT: sign_checkpoint(Checkpoint(LOG_NAME, tree.size, tree.root()), KEY),
        "log.vkey": KEY.verify_key.text.encode() + b"\n",
    }
    for tile in layout(len(raw)):
        files[tile.path] = tile_bytes(tree, tile, lambda start, stop: raw[start:stop])
    write_files(path, insecure_manifest(KEY, Openness(len(raw)), files | (changed or {})))
    return path


@pytest.fixture(scope="module")
def raw() -> list[bytes]:
    return entries_of(SIZE)


@pytest.fixture(scope="module")
def folder(raw: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("export") / "x", raw)


def check(path: Path, plan: Plan = ONLY) -> Verdict:
    return verify(path, KEY.verify_key, plan)


def found(verdict: Verdict) -> list[tuple[str, str]]:
    return [(item.code, item.where) for item in (*verdict.findings, *verdict.missing)]


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 512, 700, SIZE])
def test_a_structure_that_holds(raw: list[bytes], tmp_path: Path, size: int):
    verdict = check(write(tmp_path / "x", raw[:size]))
    assert (verdict.status, verdict.exit_code, found(verdict)) == ("structure", 0, [])
    assert (verdict.checked["entries"], verdict.sealed) == (size, size)
    assert verdict.checked["tiles"] == sum(tile.level is not None for tile in layout(size))
    assert verdict.root == root(leaf_hash(item) for item in raw[:size]).hex()


def test_it_is_never_called_sound_nor_after_nothing_was_checked(folder: Path, tmp_path: Path):
    assert verify(folder, None, ONLY).status == "untrusted"
    empty = check(write(tmp_path / "x", []))
    assert (empty.status, found(empty)) == ("incomplete", [("nothing_checked", FILE)])


def test_any_number_of_processes_says_the_same(folder: Path, tmp_path: Path, raw: list[bytes]):
    wrong = [*raw]
    wrong[700] = wrong[700].replace(b'"time":', b'"time":1')
    for path in (folder, write(tmp_path / "x", wrong)):
        verdicts = [check(path, replace(ONLY, processes=processes)) for processes in (1, 2, 3)]
        assert verdicts[0] == verdicts[1] == verdicts[2]


def changed(entry: bytes, **fields: object) -> bytes:
    return replace(Entry.from_bytes(entry), **fields).to_bytes()  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [0, 1, 255, 256, 700, SIZE - 1])
def test_an_entry_that_breaks_the_chain(raw: list[bytes], tmp_path: Path, place: int):
    wrong = [*raw]
    wrong[place] = changed(raw[place], previous=b"x" * 32)
    verdict = check(write(tmp_path / "x", wrong))
    # The next one named the entry as it was.
    after = [("chain_broken", f"entry {place + 1}")] if place < SIZE - 1 else []
    expected = [("chain_broken", f"entry {place}"), *after]
    assert sorted(found(verdict)) == sorted(expected)


@pytest.mark.parametrize("place", [256, 700, SIZE - 1])
def test_times_that_go_back_and_indexes_that_are_others(
    raw: list[bytes], tmp_path: Path, place: int
):
    wrong = [*raw[:place], changed(raw[place], time=0)]
    verdict = check(write(tmp_path / "x", wrong))
    assert found(verdict) == [("time_goes_back", f"entry {place}")]
    wrong = [*raw[:place], changed(raw[place], index=place + 1)]
    verdict = check(write(tmp_path / "y", wrong))
    assert found(verdict) == [("chain_broken", f"entry {place}")]


@pytest.mark.parametrize("place", [3, 600])
def test_a_leaf_that_is_no_entry(raw: list[bytes], tmp_path: Path, place: int):
    wrong = [*raw[: place + 1]]
    wrong[place] = b"{}"
    assert found(check(write(tmp_path / "x", wrong))) == [("malformed_entry", f"entry {place}")]


@pytest.mark.parametrize("path", ["tile/entries/002", "tile/0/002", "tile/1/000.p/5"])
@pytest.mark.parametrize("deed", ["signed", "zeros", "gone"])
def test_a_tile_that_is_another(
    raw: list[bytes], folder: Path, tmp_path: Path, path: str, deed: str
):
    data = (folder / path).read_bytes()
    if deed == "signed":
        verdict = check(write(tmp_path / "x", raw, {path: bytes(len(data))}))
        code = "damaged" if "entries" in path else "wrong_tile"
    else:
        copy = tmp_path / "x"
        shutil.copytree(folder, copy)
        (copy / path).write_bytes(bytes(len(data)))
        code = "damaged"
        if deed == "gone":
            (copy / path).unlink()
            code = "missing_file"
        verdict = check(copy)
    assert found(verdict) == [(code, path)]


def test_another_root(raw: list[bytes], tmp_path: Path):
    other = sign_checkpoint(Checkpoint(LOG_NAME, SIZE, bytes(32)), KEY)
    verdict = check(write(tmp_path / "x", raw, {CHECKPOINT: other}))
    assert found(verdict) == [("wrong_root", CHECKPOINT)]


def contents_of(path: Path) -> Contents:
    files = read_files(path)
    openness = Openness(SIZE)
    manifest = Manifest(
        LOG_NAME, openness.size, 0, "x", Table.of(files[FILES]), Table.of(files[SPANS])
    )
    return read_tables(manifest, files[FILES], files[SPANS])


@pytest.mark.parametrize("sizes", [range(SIZE + 1), [1], [256], [257, 700], [SIZE]])
def test_roots_of_older_sizes(raw: list[bytes], folder: Path, sizes: Sequence[int]):
    contents = contents_of(folder)
    structure = Structure(contents, Report(), sizes)
    with Folder(folder) as opened:
        for number in range(bundle_count(SIZE)):
            whole = number in structure.whole
            structure.take(check_bundle(opened, contents, number, whole=whole))
    leaves = [leaf_hash(item) for item in raw]
    tree = Tree.from_leaf_hashes(leaves)
    for size in sizes:
        assert structure.root(size) == tree.root(size)


def test_no_root_is_made_up_for_what_is_not_there(folder: Path, tmp_path: Path):
    copy = tmp_path / "x"
    shutil.copytree(folder, copy)
    (copy / "tile/entries/001").unlink()
    contents = contents_of(copy)
    structure = Structure(contents, Report())
    with Folder(copy) as opened:
        for number in range(bundle_count(SIZE)):
            structure.take(check_bundle(opened, contents, number))
    with pytest.raises(EncodingError, match="not all there"):
        structure.root(SIZE)
    kept = sign_checkpoint(Checkpoint(LOG_NAME, 5, bytes(32)), KEY)
    verdict = check(copy, replace(ONLY, kept=[kept]))
    assert ("unreadable", CHECKPOINT) in found(verdict)


# What was kept from before.


def signed(size: int, leaves: Sequence[bytes]) -> bytes:
    tree = Tree.from_leaf_hashes(leaves[:size])
    return sign_checkpoint(Checkpoint(KEY.name, size, tree.root()), KEY)


@pytest.mark.parametrize("size", [0, 1, 256, 300, 1024, SIZE - 1, SIZE])
def test_an_export_contains_what_was_kept(raw: list[bytes], folder: Path, size: int):
    leaves = [leaf_hash(item) for item in raw]
    verdict = check(folder, replace(ONLY, kept=[signed(size, leaves)]))
    assert (verdict.status, verdict.retained) == ("structure", [size])
    assert verdict.checked["kept_checkpoints"] == 1
    assert verdict.freshness == f"it is not older than the {size} entries that you kept"
    proof = b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + signed(size, leaves)
    assert check(folder, replace(ONLY, kept=[proof])).status == "structure"


def test_an_older_export_is_found_by_what_was_kept(raw: list[bytes], tmp_path: Path):
    older = write(tmp_path / "x", raw[:-1])
    kept = signed(SIZE, [leaf_hash(item) for item in raw])
    # Without it nobody can tell, and that is what is said.
    verdict = check(older)
    assert (verdict.status, verdict.freshness) == (
        "structure",
        "nothing here shows that this is the newest state",
    )
    verdict = check(older, replace(ONLY, kept=[kept]))
    assert (verdict.status, found(verdict)) == ("tampered", [("rolled_back", CHECKPOINT)])
    assert verdict.retained == []


@pytest.mark.parametrize("size", [1, 256, 300, SIZE])
def test_another_history_is_found_by_what_was_kept(raw: list[bytes], folder: Path, size: int):
    other = [leaf_hash(item + b" ") for item in raw]
    verdict = check(folder, replace(ONLY, kept=[signed(size, other)]))
    assert (verdict.status, found(verdict)) == ("tampered", [("split_view", CHECKPOINT)])


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"nonsense",
        b"c2sp.org/tlog-proof@v1\nindex 0\n",
        sign_checkpoint(Checkpoint("other.example", 1, bytes(32)), key_of("other.example")),
    ],
)
def test_what_was_kept_and_cannot_be_used(folder: Path, kept: bytes):
    verdict = check(folder, replace(ONLY, kept=[kept]))
    assert verdict.status == "incomplete"
    assert found(verdict) == [("unusable_checkpoint", "kept checkpoint 1")]


def test_a_process_that_dies_is_part_of_the_verdict(folder: Path, monkeypatch: pytest.MonkeyPatch):
    parent = os.getpid()

    def die(*_args: object, **_more: object) -> None:
        assert os.getpid() != parent
        os._exit(1)

    monkeypatch.setattr("ledger.verify.check_bundle", die)
    verdict = check(folder, replace(ONLY, processes=2))
    assert (verdict.status, found(verdict)) == (
        "incomplete",
        [("check_failed", "entries 0 to 255")],
    )


def test_progress_is_told(folder: Path):
    told: list[tuple[int, int]] = []
    plan = replace(ONLY, processes=2, progress=lambda done, size: told.append((done, size)))
    check(folder, plan)
    assert told == [(min(256 * (n + 1), SIZE), SIZE) for n in range(6)]


def test_a_bundle_with_a_wrong_frame(raw: list[bytes], tmp_path: Path):
    path = Tile(None, 5, SIZE - 1280).path
    for wrong in (encode_bundle(raw[1280:])[:-1], encode_bundle(raw[1280:-1])):
        verdict = check(write(tmp_path / str(len(wrong)), raw, {path: wrong}))
        assert found(verdict) == [("damaged", path)]


@pytest.mark.parametrize("place", [0, 255, 256, SIZE - 1])
def test_references_lead_back_alone(raw: list[bytes], tmp_path: Path, place: int):
    wrong = [*raw]
    entry = Entry.from_bytes(raw[place])
    wrong[place] = replace(entry, references=(place,)).to_bytes()
    assert ("malformed_entry", f"entry {place}") in found(check(write(tmp_path / "x", wrong)))


def test_nothing_lies_between_two_entries(raw: list[bytes], tmp_path: Path):
    path = Tile(None, 5, SIZE - 1280).path
    bundle = encode_bundle(raw[1280:])
    place = 2 + len(raw[1280])
    for number, cut in enumerate((0, place, len(bundle))):
        wrong = bundle[:cut] + b"\0\0" + bundle[cut:]
        verdict = check(write(tmp_path / f"{number}", raw, {path: wrong}))
        assert found(verdict) == [("damaged", path)]


def test_an_entry_that_no_frame_can_hold(raw: list[bytes], tmp_path: Path):
    path = Tile(None, 5, SIZE - 1280).path
    long = raw[1280].replace(b'"references":[', b'"references":[' + b"0," * (1 << 16))
    frame = (len(long) % (1 << 16)).to_bytes(2, "big")
    bundle = frame + long + encode_bundle(raw[1281:])
    verdict = check(write(tmp_path / "x", raw, {path: bundle}))
    assert found(verdict) == [("damaged", path)]
