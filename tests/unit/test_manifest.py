"""The signed table of contents: strict, and exactly the files that a log of its size has."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import note
from ledger.encoding import sha256_text
from ledger.errors import NoteError, SignatureError, StatementError, TrustError
from ledger.keys import SigningKey
from ledger.manifest import (
    HEADING,
    File,
    Manifest,
    Span,
    expected_files,
    open_manifest,
    openings_path,
    spans,
)
from ledger.tiles import Tile
from tests.world import LOG_NAME, key_of

KEY = key_of(LOG_NAME)
OPENED = (Span(0, 3), Span(5, 300))


def manifest(size: int = 300, opened: tuple[Span, ...] = OPENED) -> Manifest:
    paths = sorted(expected_files(size, opened))
    files = tuple(File(path, 1, sha256_text(path.encode())) for path in paths)
    return Manifest(LOG_NAME, size, 1, "everything", opened, files)


def test_a_signed_manifest_is_opened():
    assert open_manifest(manifest().sign(KEY), KEY.verify_key) == manifest()
    empty = manifest(0, ())
    assert open_manifest(empty.sign(KEY), KEY.verify_key) == empty


def test_only_the_logs_key_counts():
    signed = manifest().sign(KEY)
    with pytest.raises(TrustError):
        open_manifest(signed, SigningKey.from_seed(LOG_NAME, bytes(32)).verify_key)
    with pytest.raises(SignatureError):
        open_manifest(signed.replace(b'"everything"', b'"everythinG"'), KEY.verify_key)


@pytest.mark.parametrize(
    "text",
    [
        "rongshu/export-manifest/v2\n{}\n",
        f"{LOG_NAME}\n5\nAAAA\n",
        f"{HEADING}\n",
        f"{HEADING}\n{{}}\n",
        f"{HEADING}\n{json.dumps(manifest().payload())}\n",
        f" {HEADING}\n{{}}\n",
    ],
)
def test_another_text_by_the_same_key_is_no_manifest(text: str):
    with pytest.raises(NoteError):
        open_manifest(note.sign(text, [KEY]), KEY.verify_key)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(manifest(), files=manifest().files[1:]), "not the files of a log"),
        (replace(manifest(), files=manifest().files[::-1]), "not sorted"),
        (replace(manifest(), files=manifest().files[:1] + manifest().files), "stands twice"),
        (replace(manifest(), size=299), "leave the log"),
        (replace(manifest(), size=301), "not the files of a log of 301"),
        (replace(manifest(), size=2**53 - 1), "not the files of a log"),
        (replace(manifest(), opened=(Span(0, 300),) * 2), "overlap"),
        (replace(manifest(), opened=(Span(0, 3), Span(3, 300))), "touch"),
        (replace(manifest(), opened=(Span(5, 5),)), "overlap, touch or leave"),
        (replace(manifest(), opened=(Span(5, 300), Span(0, 3))), "overlap"),
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
    assert expected_files(257, [Span(256, 257)]) == [
        "checkpoint",
        "log.vkey",
        "tile/entries/000",
        "tile/entries/001.p/1",
        "tile/0/000",
        "tile/0/001.p/1",
        "tile/1/000.p/1",
        "openings/001",
    ]
    assert expected_files(0, []) == ["checkpoint", "log.vkey"]
    assert openings_path(1_234) == "openings/x001/234"
    assert openings_path(0) == Tile(None, 0, 256).path.replace("tile/entries", "openings")


@given(st.sets(st.integers(0, 60)))
def test_spans_cover_exactly_what_they_were_made_of(indexes: set[int]):
    found = spans(indexes)
    assert {index for span in found for index in range(span.start, span.stop)} == indexes
    assert all(first.stop < second.start for first, second in pairwise(found))
    assert manifest(61, found).open_indexes() == indexes
    assert Manifest.from_payload(manifest(61, found).payload()) == manifest(61, found)
