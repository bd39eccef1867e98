"""The tlog-tiles layout: which files there are, and what is in them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import EncodingError, LogError
from ledger.merkle import Tree, leaf_hash, node_hash, root
from ledger.tiles import (
    WIDTH,
    Tile,
    decode_bundle,
    decode_hashes,
    encode_bundle,
    layout,
    tile_bytes,
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 256), "tile/0/000"),
        (Tile(0, 0, 38), "tile/0/000.p/38"),
        (Tile(None, 0, 38), "tile/entries/000.p/38"),
        (Tile(1, 1234, 256), "tile/1/x001/234"),
        (Tile(7, 1_234_067, 255), "tile/7/x001/x234/067.p/255"),
    ],
)
def test_paths_of_the_specification(tile: Tile, path: str):
    assert tile.path == path
    assert Tile.from_path(path) == tile


@given(
    st.builds(
        Tile,
        st.none() | st.integers(0, 7),
        st.integers(0, 2**55),
        st.integers(1, WIDTH),
    )
)
def test_every_tile_is_read_back(tile: Tile):
    assert Tile.from_path(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/002",
        "tile/0/x01/002",
        "tile/8/000",
        "tile/-1/000",
        "tile/00/000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../0/000",
        "tile/entries/000.P/5",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/0/" + "x001/" * 500 + "000",
    ],
)
def test_what_is_no_path_is_refused(path: str):
    with pytest.raises(EncodingError, match="is no tile path"):
        Tile.from_path(path)


@pytest.mark.parametrize(
    ("size", "paths"),
    [
        (0, []),
        (1, ["tile/entries/000.p/1", "tile/0/000.p/1"]),
        (255, ["tile/entries/000.p/255", "tile/0/000.p/255"]),
        (256, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]),
        (
            257,
            [
                "tile/entries/000",
                "tile/entries/001.p/1",
                "tile/0/000",
                "tile/0/001.p/1",
                "tile/1/000.p/1",
            ],
        ),
    ],
)
def test_the_files_of_a_log(size: int, paths: list[str]):
    assert [tile.path for tile in layout(size)] == paths


def test_a_full_second_level():
    paths = [tile.path for tile in layout(256**2)]
    assert paths[-2:] == ["tile/1/000", "tile/2/000.p/1"]
    assert len(paths) == 256 + 256 + 1 + 1


def test_tiles_hold_the_hashes_of_the_tree():
    leaves = [leaf_hash(b"%d" % number) for number in range(600)]
    tree = Tree.from_leaf_hashes(leaves)
    read = {
        tile.path: decode_hashes(tile_bytes(tree, tile, lambda _a, _b: ()), tile.width)
        for tile in layout(600)
        if tile.level is not None
    }
    assert read["tile/0/000"] + read["tile/0/001"] + read["tile/0/002.p/88"] == leaves
    assert read["tile/1/000.p/2"] == [root(leaves[:256]), root(leaves[256:512])]
    assert node_hash(node_hash(*read["tile/1/000.p/2"]), root(leaves[512:])) == tree.root()


def test_a_file_that_is_not_there_yet():
    tree = Tree.from_leaf_hashes(leaf_hash(b"%d" % number) for number in range(300))
    for tile in (Tile(0, 1, 45), Tile(0, 2, 1), Tile(1, 0, 2), Tile(None, 1, 45)):
        with pytest.raises(LogError, match="the log has 300 entries"):
            tile_bytes(tree, tile, lambda _a, _b: [])
    assert tile_bytes(tree, Tile(None, 1, 1), lambda a, b: [b"x"] * (b - a)) == b"\0\1x"


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_round_trips(entries: list[bytes]):
    assert decode_bundle(encode_bundle(entries), len(entries)) == entries


def test_a_damaged_bundle_is_refused():
    data = encode_bundle([b"one", b"", b"three"])
    for damaged, count in (
        (data, 2),
        (data, 4),
        (data[:-1], 3),
        (data + b"\0", 3),
        (data + b"\0\0", 3),
        (b"\xff\xff", 1),
        (b"", 1),
    ):
        with pytest.raises(EncodingError):
            decode_bundle(damaged, count)
    with pytest.raises(EncodingError, match="longer than 65535"):
        encode_bundle([bytes(65_536)])
    assert decode_bundle(encode_bundle([bytes(65_535)]), 1) == [bytes(65_535)]


def test_a_damaged_tile_of_hashes_is_refused():
    data = random.Random(5).randbytes(96)
    assert b"".join(decode_hashes(data, 3)) == data
    for damaged, count in ((data[:-1], 3), (data + b"\0", 3), (data, 2), (b"", 1)):
        with pytest.raises(EncodingError):
            decode_hashes(damaged, count)
