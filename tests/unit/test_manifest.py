"""The signed table of contents: strict, and exactly the files that a log of its size has."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import note
from ledger.encoding import sha256_text
from ledger.errors import EncodingError, NoteError, StatementError
from ledger.first_manifest import HEADING as FIRST_HEADING
from ledger.first_manifest import MAX_EXPORT, FirstManifest, read_first_manifest
from ledger.manifest import (
    CLOSED,
    ERASED,
    HEADING,
    MAX_SIZE,
    OPENED,
    SEALED,
    File,
    Manifest,
    Openness,
    Span,
    Table,
    expected_files,
    files_table,
    numbered_path,
    openings_path,
    read_manifest,
    read_tables,
    sealed_path,
    spans,
    spans_table,
)
from ledger.tiles import Tile
from tests.drafts import key_of
from tests.world import LOG_NAME

KEY = key_of(LOG_NAME)
OPENNESS = Openness(300, [(OPENED, 0, 3), (OPENED, 5, 256), (SEALED, 256, 259), (ERASED, 260, 261)])


def tables(openness: Openness = OPENNESS, *more: str) -> tuple[bytes, bytes]:
    paths = [*expected_files(openness.size, openness), *more]
    return files_table(File.of(path, path.encode()) for path in paths), spans_table(openness)


def manifest(openness: Openness = OPENNESS, *more: str) -> Manifest:
    files, found = tables(openness, *more)
    return Manifest(LOG_NAME, openness.size, 1, "some", Table.of(files), Table.of(found))


def text_of(signed: bytes) -> str:
    return note.open_note(signed, [KEY.verify_key]).text


def test_a_signed_manifest_is_opened():
    assert read_manifest(text_of(manifest().sign(KEY))) == manifest()
    contents = read_tables(manifest(), *tables())
    assert contents.openness == OPENNESS
    assert contents.openness != Openness(300)
    assert contents.openness != 1
    assert set(contents.files) == set(expected_files(300, OPENNESS))
    assert contents.file("checkpoint") == File.of("checkpoint", b"checkpoint")
    assert contents.numbered("journals") == []
    empty = Openness(0)
    assert read_tables(manifest(empty), *tables(empty)).openness == empty


def test_optional_files_are_numbered_without_a_gap():
    more = ("tag-keys", "journals/000", "journals/001", "succession/000")
    contents = read_tables(manifest(OPENNESS, *more), *tables(OPENNESS, *more))
    assert contents.numbered("journals") == ["journals/000", "journals/001"]
    assert contents.numbered("succession") == ["succession/000"]
    assert "tag-keys" in contents.files
    for wrong in ("journals/001", "succession/x", "journals/000/0", "tag-keys/000", "note.txt"):
        with pytest.raises(EncodingError, match="not the files of a log of 300"):
            read_tables(manifest(), *tables(OPENNESS, wrong))


def test_nothing_stands_between_the_lines_of_a_table():
    files, found = tables()
    for table, line in ((files, 1), (files, 3), (found, 1), (found, 2)):
        lines = table.splitlines(keepends=True)
        wrong = b"".join([*lines[: line - 1], b"?\n", *lines[line - 1 :]])
        given = (wrong, found) if table is files else (files, wrong)
        with pytest.raises(EncodingError, match=f"line {line} is not"):
            read_tables(manifest(), *given)


def test_a_size_that_nobody_could_export_is_refused_at_once():
    """The files of such a log are never named: there are more than fit into the memory."""
    files, _ = tables()
    large = replace(manifest(), size=MAX_SIZE)
    with pytest.raises(EncodingError, match=f"not the files of a log of {MAX_SIZE}"):
        read_tables(large, files, spans_table(Openness(MAX_SIZE)))


def test_a_thousand_and_one_journals_are_too_many():
    paths = [numbered_path("journals", number) for number in range(1001)]
    assert len(read_tables(manifest(), *tables(OPENNESS, *paths[:1000])).files) > 1000
    with pytest.raises(EncodingError, match="not the files"):
        read_tables(manifest(), *tables(OPENNESS, *paths))


@pytest.mark.parametrize(
    "text",
    [
        f"{FIRST_HEADING}\n{{}}\n",
        f"{LOG_NAME}\n5\nAAAA\n",
        f"{HEADING}\n",
        f"{HEADING}\n{{}}\n",
        f"{HEADING}\n{json.dumps(manifest().payload())}\n",
        f" {HEADING}\n{{}}\n",
    ],
)
def test_another_text_is_no_manifest(text: str):
    with pytest.raises(NoteError):
        read_manifest(text)
    with pytest.raises(NoteError):
        read_first_manifest(text)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(manifest(), size=MAX_SIZE + 1), "are read"),
        (replace(manifest(), size=-1), "negative"),
        (replace(manifest(), files=replace(manifest().files, length=2**40)), "files: longer than"),
        (replace(manifest(), spans=replace(manifest().spans, length=2**40)), "spans: longer than"),
        (replace(manifest(), scope=""), "scope"),
        (replace(manifest(), created=-1), "created: -1 is negative"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_neither_signed_nor_read(
    changed: Manifest, message: str
):
    with pytest.raises(StatementError, match=message):
        changed.sign(KEY)
    with pytest.raises(StatementError, match=message):
        Manifest.from_payload(changed.payload())


def test_the_files_that_an_export_must_have():
    openness = Openness.of(257, [256], sealed=[255])
    assert list(expected_files(257, openness)) == [
        "checkpoint",
        "log.vkey",
        "tile/entries/000",
        "tile/entries/001.p/1",
        "tile/0/000",
        "tile/0/001.p/1",
        "tile/1/000.p/1",
        "openings/001",
        "sealed/000",
    ]
    assert list(expected_files(0, Openness(0))) == ["checkpoint", "log.vkey"]
    assert openings_path(1_234) == "openings/x001/234"
    assert sealed_path(0) == Tile(None, 0, 256).path.replace("tile/entries", "sealed")


def test_entries_are_in_one_state():
    assert OPENNESS.within(0, 6) == [OPENED] * 3 + [CLOSED] * 2 + [OPENED]
    assert OPENNESS.within(255, 262) == [OPENED, *[SEALED] * 3, CLOSED, ERASED, CLOSED]
    assert [OPENNESS.count(state) for state in (OPENED, SEALED, ERASED)] == [254, 3, 1]
    assert OPENNESS.bundles(OPENED) == [0]
    assert Openness.of(1000, [1, 2, 300, 700, 999]).bundles(OPENED) == [0, 1, 2, 3]
    assert OPENNESS.spans(ERASED) == (Span(260, 261),)
    for wrong in ({"opened": [1], "sealed": [1]}, {"opened": [-1]}):
        with pytest.raises(StatementError, match="overlap"):
            Openness.of(9, **{"opened": (), **wrong})


@given(st.sets(st.integers(0, 60)))
def test_spans_cover_exactly_what_they_were_made_of(indexes: set[int]):
    found = spans(indexes)
    assert {index for span in found for index in range(span.start, span.stop)} == indexes
    assert all(first.stop < second.start for first, second in pairwise(found))
    openness = Openness.of(50, indexes)
    assert openness.spans(OPENED) == spans(index for index in indexes if index < 50)
    assert read_tables(manifest(openness), *tables(openness)).openness == openness
    assert spans(range(3, 7)) == (Span(3, 7),)
    assert spans(range(0)) == ()


@given(st.lists(st.sampled_from([OPENED, SEALED, ERASED, CLOSED]), max_size=600), st.data())
def test_states_are_what_the_table_says(states: list[str], data: st.DataObject):
    chosen = {
        name: [index for index, state in enumerate(states) if state == name]
        for name in (OPENED, SEALED, ERASED)
    }
    openness = Openness.of(len(states), chosen[OPENED], chosen[SEALED], chosen[ERASED])
    start = data.draw(st.integers(0, len(states)))
    stop = data.draw(st.integers(start, len(states)))
    assert openness.within(start, stop) == states[start:stop]
    for name, indexes in chosen.items():
        assert openness.bundles(name) == sorted({index // 256 for index in indexes})
        assert openness.count(name) == len(indexes)


# The first format.

OPENED_FIRST = (Span(0, 3), Span(5, 300))


def first(size: int = 300, opened: tuple[Span, ...] = OPENED_FIRST) -> FirstManifest:
    openness = Openness(size, ((OPENED, span.start, span.stop) for span in opened))
    paths = sorted(expected_files(size, openness))
    files = tuple(File(path, 1, sha256_text(path.encode())) for path in paths)
    return FirstManifest(LOG_NAME, size, 1, "everything", opened, files)


def test_the_first_format_is_read():
    text = (
        f"{FIRST_HEADING}\n{json.dumps(first().payload(), separators=(',', ':'), sort_keys=True)}\n"
    )
    assert read_first_manifest(text) == first()
    contents = first().contents()
    assert (contents.version, contents.openness.spans(OPENED)) == (1, OPENED_FIRST)
    assert set(contents.files) == {item.path for item in first().files}


def test_the_first_format_bounds_what_is_read():
    files = tuple(replace(item, length=MAX_EXPORT) for item in first().files)
    with pytest.raises(EncodingError, match="are read"):
        replace(first(), files=files).contents()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(first(), files=first().files[1:]), "not the files of a log"),
        (replace(first(), files=first().files[::-1]), "not sorted"),
        (replace(first(), files=first().files[:1] + first().files), "stands twice"),
        (replace(first(), size=299), "leave the log"),
        (replace(first(), size=301), "not the files of a log of 301"),
        (replace(first(), size=2**53 - 1), "not the files of a log"),
        (replace(first(), opened=(Span(0, 300),) * 2), "overlap"),
        (replace(first(), opened=(Span(0, 3), Span(3, 300))), "touch"),
        (replace(first(), opened=(Span(5, 5),)), "overlap, touch or leave"),
        (replace(first(), opened=(Span(5, 300), Span(0, 3))), "overlap"),
    ],
)
def test_a_first_manifest_that_contradicts_itself_is_not_read(changed: FirstManifest, message: str):
    with pytest.raises(StatementError, match=message):
        FirstManifest.from_payload(changed.payload())
