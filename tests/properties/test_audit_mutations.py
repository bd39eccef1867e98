"""Whatever is done to an export, the verifier never calls it sound, never fails, never hangs.

The first part damages a sound folder from outside, as anybody on its way can. The second lets the
holder of a log key write what it likes; there the lie must be found in the contents.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ledger.entry import Entry, Opening
from ledger.keys import SigningKey
from ledger.manifest import CHECKPOINT, CLAIMED_KEY, FILE, FILES, SPANS
from ledger.verify import Verdict, verify
from tests.drafts import key_of
from tests.forgery import chain, insecure_export, read_files, write_files
from tests.world import LOG_NAME, World

SECONDS = 10
TILE = "tile/0/000.p/29"
ENTRIES = "tile/entries/000.p/29"
OPENINGS = "openings/000"
EVERY_FILE = [CHECKPOINT, CLAIMED_KEY, FILE, FILES, SPANS, OPENINGS, TILE, ENTRIES]


@dataclass(frozen=True)
class Export:
    """A sound export of one use among four providers, and the world it comes from."""

    world: World
    path: Path
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    world = World.with_one_use(tmp_path_factory.mktemp("world"), providers=4)
    path = world.export(tmp_path_factory.mktemp("export"))
    return Export(world, path, read_files(path))


@pytest.fixture
def copy(export: Export, tmp_path: Path) -> Path:
    write_files(tmp_path / "copy", export.files)
    return tmp_path / "copy"


@contextmanager
def quickly() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < SECONDS


def audit(export: Export, folder: Path) -> Verdict:
    """The verdict with the key and, in passing, that without a key nothing is sound either."""
    with quickly():
        verdict = verify(folder, export.world.log.vkey)
        without = verify(folder, None)
    assert without.status != "sound"
    assert without.exit_code != 0
    return verdict


def assert_refused(verdict: Verdict, *places: str) -> None:
    """Not sound, and what is wrong has a place: one of those given, where any are."""
    assert verdict.status in ("tampered", "incomplete", "untrusted")
    told = [*verdict.findings, *verdict.missing]
    assert told
    assert all(item.where and item.message for item in told)
    if places:
        assert {item.where for item in told} & set(places), told


def test_the_export_itself_is_sound_and_complete(export: Export):
    verdict = verify(export.path, export.world.log.vkey)
    assert (verdict.status, verdict.exit_code, verdict.sealed) == ("sound", 0, 0)
    assert verdict.size == verdict.checked["entries"] == 29
    assert sorted(export.files) == sorted(EVERY_FILE)


def test_without_a_key_from_outside_nothing_is_sound(export: Export):
    verdict = verify(export.path, None)
    assert (verdict.status, verdict.exit_code) == ("untrusted", 3)
    assert verdict.key_fingerprint == export.world.log.vkey.fingerprint
    assert not verdict.key_given


# Bytes, one at a time.


def flip(export: Export, folder: Path, name: str, place: int, new: int) -> None:
    data = bytearray(export.files[name])
    assert data[place] != new
    data[place] = new
    (folder / name).write_bytes(data)
    verdict = verify(folder, export.world.log.vkey)
    assert verdict.status != "sound", (name, place, new)
    # A key line that names nobody known leaves the manifest unsigned: that is its file too.
    assert_refused(verdict, name)
    (folder / name).write_bytes(export.files[name])


def places(export: Export) -> list[tuple[str, int]]:
    return [(name, place) for name, data in export.files.items() for place in range(len(data))]


def test_no_changed_byte_is_accepted(export: Export, copy: Path):
    chosen = random.Random(20260101)
    everywhere = places(export)
    # The small files in proportion would hardly be hit. A changed tile or key file leaves all
    # entries to be replayed, which is slow.
    most = dict.fromkeys(export.files, 400) | {TILE: 100}
    sample = [
        place
        for name, number in most.items()
        for place in chosen.sample(
            [place for place in everywhere if place[0] == name],
            min(number, len(export.files[name])),
        )
    ]
    assert len(sample) > 1500
    for name, place in sample:
        old = export.files[name][place]
        flip(export, copy, name, place, old ^ (1 << chosen.randrange(8)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_changed_byte_is_accepted_anywhere(export: Export, copy: Path):
    chosen = random.Random(20260102)
    for name, place in places(export):
        old = export.files[name][place]
        flip(export, copy, name, place, (old + chosen.randrange(1, 256)) % 256)


# Whole files.


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_deleted_file_is_missed(export: Export, copy: Path, name: str):
    (copy / name).unlink()
    verdict = audit(export, copy)
    assert_refused(verdict, name)
    assert verdict.status == "incomplete"


@pytest.mark.parametrize("name", EVERY_FILE)
def test_truncated_and_grown_files_are_refused(export: Export, copy: Path, name: str):
    data = export.files[name]
    for damaged in (
        b"",
        data[:1],
        data[: len(data) // 2],
        data[:-1],
        data + b"\0",
        data + b"\n",
        data + data,
    ):
        (copy / name).write_bytes(damaged)
        assert_refused(audit(export, copy), name)


def test_two_files_swapped_are_refused(export: Export, copy: Path):
    names = sorted(export.files)
    for first in names:
        for second in names:
            if first < second:
                changed = {first: export.files[second], second: export.files[first]}
                write_files(copy, changed)
                assert_refused(audit(export, copy), first, second)
                write_files(copy, export.files)


@pytest.mark.parametrize(
    "name", ["note.txt", ".hidden", "tile/0/001", "openings/000.bak", "a/b/c/d/e/f/g/h/i/j/k"]
)
def test_an_unlisted_file_is_tampering(export: Export, copy: Path, name: str):
    write_files(copy, {name: b""})
    verdict = audit(export, copy)
    assert verdict.status == "tampered"
    assert [item.code for item in verdict.findings] == ["unlisted_file"]
    assert name.startswith(verdict.findings[0].where.rstrip("/"))


def test_an_empty_folder_and_a_name_that_is_no_text_are_unlisted(export: Export, copy: Path):
    (copy / "empty").mkdir()
    (copy / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    verdict = audit(export, copy)
    assert [item.where for item in verdict.findings] == [r"\xff\xfe", "empty/"]


def test_more_unlisted_files_than_anyone_reads_end_in_a_verdict(export: Export, copy: Path):
    write_files(copy, {f"more{number}": b"" for number in range(300)})
    write_files(copy, {f"folder/{number}": b"" for number in range(300)})
    verdict = audit(export, copy)
    assert len(verdict.findings) == 100
    # A folder in which nothing belongs is named and not entered.
    for number in range(300):
        (copy / f"more{number}").unlink()
    assert [item.where for item in audit(export, copy).findings] == ["folder/"]


# Things that are no ordinary files.


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_link_is_not_followed(export: Export, copy: Path, tmp_path: Path, name: str):
    target = tmp_path / "elsewhere"
    shutil.copy(copy / name, target)
    (copy / name).unlink()
    (copy / name).symlink_to(target)
    verdict = audit(export, copy)
    assert verdict.status == "tampered"
    assert_refused(verdict, name)


def test_a_linked_folder_is_not_followed(export: Export, copy: Path, tmp_path: Path):
    shutil.move(copy / "tile", tmp_path / "elsewhere")
    (copy / "tile").symlink_to(tmp_path / "elsewhere")
    verdict = audit(export, copy)
    assert verdict.status == "tampered"
    assert_refused(verdict, TILE)


def test_a_folder_linked_to_itself_ends(export: Export, copy: Path):
    (copy / "loop").symlink_to(copy)
    assert [item.where for item in audit(export, copy).findings] == ["loop"]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_ten_gigabytes_are_refused_unread(export: Export, copy: Path, name: str):
    with (copy / name).open("r+b") as file:
        file.truncate(10_000_000_000)
    start = time.monotonic()
    assert_refused(audit(export, copy), name)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_named_pipe_does_not_hang(export: Export, copy: Path, name: str):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    verdict = audit(export, copy)
    assert verdict.status == "tampered"
    assert_refused(verdict, name)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_folder_in_the_place_of_a_file_is_refused(export: Export, copy: Path, name: str):
    (copy / name).unlink()
    (copy / name).mkdir()
    assert_refused(audit(export, copy), name)


# By the holder of a key: a folder that is consistent in itself.


def forge(
    export: Export,
    folder: Path,
    *,
    key: SigningKey | None = None,
    entries: Callable[[list[Entry]], list[Entry]] = chain,
    openings: Callable[[list[Opening]], list[Opening]] = list,
    **more: object,
) -> Path:
    world = export.world
    return insecure_export(
        folder,
        key or world.log_key,
        entries(world.entries()),
        openings(world.openings()),
        **more,  # type: ignore[arg-type]
    )


def test_the_writer_of_forgeries_writes_sound_folders_too(export: Export, tmp_path: Path):
    assert audit(export, forge(export, tmp_path / "same")).status == "sound"


def test_a_forgery_by_another_key_is_refused_by_the_real_one(export: Export, tmp_path: Path):
    forger = SigningKey.from_seed(LOG_NAME, bytes(32))
    folder = forge(export, tmp_path / "forged", key=forger)
    verdict = audit(export, folder)
    assert (verdict.status, verdict.exit_code) == ("untrusted", 3)
    assert_refused(verdict, FILE)
    # The twin: under its own key nothing is wrong with it.
    assert verify(folder, forger.verify_key).status == "sound"


def test_a_log_of_another_name_is_refused(export: Export, tmp_path: Path):
    other = key_of("other.example/log")
    folder = forge(export, tmp_path / "other", key=other)
    assert audit(export, folder).exit_code == 3
    assert verify(folder, other.verify_key).exit_code == 0


def changed(
    place: int, *, rechained: bool = True, **fields: object
) -> Callable[[list[Entry]], list[Entry]]:
    def change(entries: list[Entry]) -> list[Entry]:
        entries[place] = replace(entries[place], **fields)  # type: ignore[arg-type]
        return chain(entries) if rechained else entries

    return change


LAST = 28

FORGERIES = {
    "chain_broken: another predecessor": (
        changed(LAST, rechained=False, previous=bytes(32)),
        "chain_broken",
        LAST,
    ),
    "chain_broken: another index": (changed(LAST, index=LAST + 1), "chain_broken", LAST),
    "time_goes_back": (changed(LAST, time=0), "time_goes_back", LAST),
    "references_mismatch: number": (changed(LAST, references=(1,)), "references_mismatch", LAST),
    "references_mismatch: kind": (changed(LAST, references=(0,) * 6), "references_mismatch", LAST),
    "references_mismatch: absent": (
        changed(LAST, references=(18, None, 5, 8, 11, 14)),
        "references_mismatch",
        LAST,
    ),
    "wrong_opening: commitment": (changed(LAST, commitment=bytes(32)), "wrong_opening", LAST),
    "wrong_opening: kind": (
        changed(LAST, kind="release", references=(18, 23, 24, 25, 26)),
        "wrong_opening",
        LAST,
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_false_entry_is_the_one_finding(export: Export, tmp_path: Path, name: str):
    change, code, index = FORGERIES[name]
    verdict = audit(export, forge(export, tmp_path / "forged", entries=change))
    assert [(item.code, item.where) for item in verdict.findings] == [(code, f"entry {index}")]


def test_references_to_the_wrong_entry_of_the_right_kind(export: Export, tmp_path: Path):
    first = next(entry for entry in export.world.entries() if entry.kind == "grant")
    swapped = (first.references[0] + 3, *first.references[1:])  # type: ignore[operator]
    verdict = audit(
        export,
        forge(export, tmp_path / "x", entries=changed(first.index, references=swapped)),
    )
    assert [(item.code, item.where) for item in verdict.findings] == [
        ("references_mismatch", f"entry {first.index}")
    ]


@pytest.mark.parametrize("value", [b"{}", b"", b"[" * 60_000, b'{"a":' * 10_000, b"\xff" * 50])
def test_a_leaf_that_is_no_entry_is_named(export: Export, tmp_path: Path, value: bytes):
    world = export.world
    entries: list[Entry | bytes] = [*world.entries()[:LAST], value]
    folder = insecure_export(tmp_path / "x", world.log_key, entries, world.openings()[:LAST])
    verdict = audit(export, folder)
    assert [(item.code, item.where) for item in verdict.findings] == [
        ("malformed_entry", f"entry {LAST}")
    ]


def test_a_missing_opening_is_incomplete(export: Export, tmp_path: Path):
    folder = forge(
        export, tmp_path / "x", openings=lambda found: found[:LAST], opened=range(LAST + 1)
    )
    verdict = audit(export, folder)
    assert verdict.status == "incomplete"
    assert [(item.code, item.where) for item in verdict.missing] == [
        ("missing_opening", f"entry {LAST}")
    ]
    sealed = forge(export, tmp_path / "y", openings=lambda found: found[:LAST])
    verdict = audit(export, sealed)
    assert (verdict.status, verdict.sealed) == ("sound", 1)


def bundle(*lines: bytes) -> dict[str, bytes]:
    return {OPENINGS: b"".join(lines)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines, lines[0]],
        lambda lines: [*lines[:-1], lines[-1].rstrip()],
        lambda lines: [*lines, b"\n"],
        lambda lines: [*lines, b"[" * 100_000 + b"\n"],
        lambda lines: [*lines, b'{"envelope":"","index":29,"salt":""}\n'],
        lambda lines: [lines[1].replace(b'"index":1', b'"index":0'), *lines[2:]],
        lambda lines: [lines[0].replace(b'"salt":"', b'"salt": "'), *lines[1:]],
        lambda lines: [lines[0].replace(b'"salt":"', b'"salt":"AAAA'), *lines[1:]],
    ],
    ids=["twice", "cut", "blank", "bomb", "beyond", "other", "spaced", "salted"],
)
def test_openings_outside_their_format(
    export: Export, tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]]
):
    lines = export.files[OPENINGS].splitlines(keepends=True)
    folder = forge(export, tmp_path / "x", opened=range(LAST + 1), changed=bundle(*damage(lines)))
    verdict = audit(export, folder)
    assert verdict.status == "tampered"
    assert_refused(verdict, OPENINGS, "entry 0")


@pytest.mark.parametrize(
    ("name", "code"),
    [(TILE, "wrong_tile"), (CHECKPOINT, "damaged"), (CLAIMED_KEY, "damaged")],
)
def test_a_signed_folder_with_one_false_file(export: Export, tmp_path: Path, name: str, code: str):
    data = bytearray(export.files[name])
    data[-20] ^= 1
    verdict = audit(export, forge(export, tmp_path / "x", changed={name: bytes(data)}))
    assert [(item.code, item.where) for item in verdict.findings] == [(code, name)]


def test_entries_that_are_not_those_of_the_root(export: Export, tmp_path: Path):
    older = forge(export, tmp_path / "older", entries=changed(LAST, commitment=bytes(32)))
    other = read_files(older)[CHECKPOINT]
    verdict = audit(export, forge(export, tmp_path / "x", changed={CHECKPOINT: other}))
    assert [(item.code, item.where) for item in verdict.findings] == [("wrong_root", CHECKPOINT)]


def test_an_older_checkpoint_does_not_cover_the_export(export: Export, tmp_path: Path):
    world = export.world
    folder = insecure_export(tmp_path / "old", world.log_key, world.entries()[:5], [])
    older = read_files(folder)[CHECKPOINT]
    verdict = audit(export, forge(export, tmp_path / "x", changed={CHECKPOINT: older}))
    assert [(item.code, item.where) for item in verdict.findings] == [("damaged", CHECKPOINT)]


# Sealed entries.


def test_sealed_entries_are_counted(export: Export):
    verdict = export.world.audit(opened=range(6))
    assert (verdict.status, verdict.sealed) == ("sound", 23)


def test_all_sealed_or_nothing_logged_is_not_sound(export: Export, tmp_path: Path):
    verdict = export.world.audit(opened=[])
    assert (verdict.status, verdict.sealed, verdict.exit_code) == ("incomplete", 29, 2)
    assert [item.code for item in verdict.missing] == ["nothing_checked"]
    empty = World(tmp_path / "empty", enrolled=False).audit()
    assert (empty.status, empty.size) == ("incomplete", 0)


def test_a_folder_that_is_empty_or_not_there_gets_a_verdict(export: Export, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        verdict = audit(export, tmp_path / name)
        assert verdict.status == "incomplete"
        assert_refused(verdict, FILE)
