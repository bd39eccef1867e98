import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ledger.encoding import b64encode
from ledger.entry import Opening
from ledger.errors import EncodingError, EntryError, TrustError
from ledger.export import Extras
from ledger.manifest import JOURNALS, TAG_KEYS, Openness, openings_path, sealed_path
from ledger.monitor import Monitor
from ledger.note import MAX_BYTES
from ledger.session import Session
from ledger.source import FolderSource, ServerSource
from ledger.succession import MAX_LIST, SUCCESSIONS_PATH, write_list
from ledger.tile_tree import MAX_BUNDLE, MAX_TILE
from ledger.tiles import Tile
from ledger.trust import Policy
from ledger.use_index import write_tag_keys
from tests.drafts import key_of, tag_key_of
from tests.forgery import insecure_export, insecure_manifest, write_files
from tests.world import World

GOLDEN = Path(__file__).resolve().parents[1] / "vectors" / "ledger" / "export-v1"


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_one_use(tmp_path_factory.mktemp("world"), 2)


def source_of(world: World, folder: Path) -> FolderSource:
    return FolderSource(folder, Policy.of(world.log.vkey))


def test_a_folder_shows_what_is_new_and_what_comes_with_it(world: World, tmp_path: Path):
    keys = write_tag_keys({p.asset: tag_key_of(p.name) for p in world.providers})
    journals = [world.journal(provider) for provider in world.providers]
    extras = Extras(journals=journals, tag_keys=keys)
    folder = world.export(tmp_path / "export", [1, 2, 5], extras=extras)
    source = source_of(world, folder)
    assert source.checkpoint() == world.log.checkpoint()
    assert list(source.openings(0, 3)) == [1, 2]
    assert source.declared(2, 9) == {2, 5}
    assert list(source.attachments(JOURNALS).values()) == journals
    assert source.attachments(TAG_KEYS) == {TAG_KEYS: keys}
    assert source.successions() == []
    with pytest.raises(EncodingError, match="not in the signed manifest"):
        source.tile(Tile(None, 5, 1))
    source.close()


def test_nothing_is_open_in_a_folder_without_openings(world: World, tmp_path: Path):
    source = source_of(world, world.export(tmp_path / "export", []))
    assert (source.openings(0, 4), source.sealed(0, 4)) == ({}, {})
    assert source.attachments(TAG_KEYS) == {}
    source.close()


def test_a_changed_file_is_refused(world: World, tmp_path: Path):
    folder = world.export(tmp_path / "export")
    path = folder / openings_path(0)
    path.write_bytes(path.read_bytes().replace(b"A", b"B"))
    source = source_of(world, folder)
    with pytest.raises(EncodingError, match="openings/000: differs"):
        source.openings(0, 4)
    source.close()


def test_openings_that_are_not_where_they_belong_are_refused(world: World, tmp_path: Path):
    line = world.openings()[0].to_bytes() + b"\n"
    for number, (data, told) in enumerate(
        ((line + line, "should not"), (line[:-1], "does not end"))
    ):
        folder = insecure_export(
            tmp_path / str(number),
            world.log_key,
            world.entries(),
            world.openings(),
            changed={openings_path(0): data},
        )
        source = source_of(world, folder)
        with pytest.raises(EntryError, match=told):
            source.openings(0, 4)
        source.close()


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (b"one\ntwo\n", {4: b"two"}),
        (b"one\n", None),
        (b"one\ntwo\nthree\n", None),
        (b"one\ntwo", None),
        (b"", None),
    ],
)
def test_sealed_openings_have_a_line_each(
    world: World, tmp_path: Path, lines: bytes, found: dict[int, bytes] | None
):
    extras = Extras(sealed={3: b"one", 4: b"two"})
    honest = world.export(tmp_path / "honest", [], extras=extras)
    paths = (path for path in honest.rglob("*") if path.is_file())
    files = {path.relative_to(honest).as_posix(): path.read_bytes() for path in paths}
    declared = Openness.of(world.log.size, [], [3, 4])
    signed = insecure_manifest(world.log_key, declared, files | {sealed_path(0): lines})
    write_files(tmp_path / "export", signed)
    source = source_of(world, tmp_path / "export")
    if found is None:
        with pytest.raises(EncodingError, match="not one line for each of its sealed"):
            source.sealed(4, 9)
    else:
        assert source.sealed(4, 9) == found
    source.close()


def test_a_folder_of_another_log_is_refused(world: World, tmp_path: Path):
    folder = world.export(tmp_path / "export")
    with pytest.raises(TrustError):
        FolderSource(folder, Policy.of(key_of("other.example/log").verify_key))
    with pytest.raises(FileNotFoundError):
        FolderSource(tmp_path / "nowhere", Policy.of(world.log.vkey))
    (folder / "succession").mkdir()
    (folder / "succession" / "000").write_bytes(b"no note")
    with pytest.raises(Exception, match="note"):
        source_of(world, folder)


def test_a_manifest_of_another_log_than_its_key_is_refused(world: World, tmp_path: Path):
    from dataclasses import replace as changed

    from ledger.manifest import Manifest

    folder = world.export(tmp_path / "export")
    text = (folder / "manifest").read_text().split("\n")[1]
    manifest = Manifest.from_payload(__import__("json").loads(text))
    (folder / "manifest").write_bytes(changed(manifest, origin="x.example").sign(world.log_key))
    with pytest.raises(EncodingError, match="another log"):
        source_of(world, folder)


def test_an_export_of_the_first_format_can_be_followed(tmp_path: Path):
    from ledger.keys import VerifyKey
    from ledger.mirror import Mirror

    folders = [path.parent for path in GOLDEN.rglob("manifest")]
    folder = folders[0]
    policy = Policy.of(VerifyKey.from_text((folder / "log.vkey").read_text().strip()))
    source = FolderSource(folder, policy)
    with Mirror(tmp_path / "state") as mirror:
        monitor = Monitor(mirror, policy)
        monitor.look(source)
        assert monitor.size == source.contents.size > 0
    source.close()


# A service.


class FakeSession(Session):
    """Answers from a list, and remembers what it was asked, and how much it would read."""

    def __init__(self, **answers: bytes) -> None:
        self.answers, self.asked, self.closed = answers, list[tuple[str, int]](), False

    def get(self, path: str, limit: int) -> bytes:
        self.asked.append((path, limit))
        return next(data for part, data in self.answers.items() if part in path)

    def close(self) -> None:
        self.closed = True


def page(openings: Sequence[Opening]) -> bytes:
    listed = [
        {
            "index": item.index,
            "salt": b64encode(item.salt),
            "envelope": b64encode(item.envelope),
        }
        for item in openings
    ]
    return json.dumps({"openings": listed, "next": None}).encode()


def test_a_service_is_asked_for_one_thing_at_a_time_and_no_more_than_it_may_have(world: World):
    session = FakeSession(
        checkpoint=world.log.checkpoint(), tile=b"a tile", successions=write_list([b"a note"])
    )
    source = ServerSource(session, scoped=True)
    assert source.checkpoint() == world.log.checkpoint()
    assert source.tile(Tile(None, 0, 7)) == source.tile(Tile(0, 0, 7)) == b"a tile"
    assert source.successions() == (b"a note",)
    assert session.asked == [
        ("/v1/log/checkpoint", MAX_BYTES),
        ("/v1/log/tile/entries/000.p/7", MAX_BUNDLE),
        ("/v1/log/tile/0/000.p/7", MAX_TILE),
        (SUCCESSIONS_PATH, MAX_LIST),
    ]
    # What a service does not say is not made up.
    assert (source.declared(0, 9), source.sealed(0, 9)) == (set(), {})
    assert (source.attachments(JOURNALS), source.attachments(TAG_KEYS)) == ({}, {})
    source.close()
    assert session.closed


def test_openings_are_asked_for_page_by_page_and_by_whom_they_are_shown(world: World):
    openings = world.openings()
    session = FakeSession(openings=page(()))
    assert ServerSource(session, scoped=False).openings(0, 300) == {}
    assert session.asked == []
    assert ServerSource(session, scoped=True).openings(0, 300) == {}
    assert [path for path, _ in session.asked] == [
        "/v1/log/openings?start=0&end=256",
        "/v1/log/openings?start=256&end=300",
    ]
    session = FakeSession(openings=page(openings[2:4]))
    found = ServerSource(session, scoped=True).openings(2, 4)
    assert found == {item.index: item.to_bytes() for item in openings[2:4]}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda shown: page(shown[1:]), "opens entry 4, which nobody asked for"),
        (lambda shown: page([*shown[:2], shown[0]]), "opens entry 2, which nobody asked for"),
        (lambda shown: page(shown)[:-1], "no JSON"),
        (lambda _: b"[" * 100_000, "no JSON"),
        (lambda _: b"[]", "no list of openings"),
        (lambda _: b'{"openings":{}}', "no list of openings"),
        (lambda shown: page([shown[0]] * 257), "no list of openings"),
    ],
)
def test_a_page_of_other_openings_is_refused(
    world: World, data: Callable[[Sequence[Opening]], bytes], told: str
):
    shown = world.openings()[2:5]
    session = FakeSession(openings=data(shown))
    with pytest.raises((EncodingError, EntryError), match=told):
        ServerSource(session, scoped=True).openings(2, 4)
