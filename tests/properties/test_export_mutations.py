"""Thousands of damaged exports, each from a seed: none is accepted, each ends at once, at a place.

What is done to them is what anybody on an export's way can do, who has older exports of the same
log too: all of those are validly signed. Only the whole of an older export put in place of a newer
one is beyond a folder's power to show; the tests of freshness are about that.
"""

import functools
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ledger import replay
from ledger.entry import Opening
from ledger.export import Extras
from ledger.keys import VerifyKey
from ledger.manifest import CHECKPOINT, FILE, FILES, SPANS
from ledger.statements.envelope import RawEnvelope, verify_raw
from ledger.tiles import decode_bundle, encode_bundle
from ledger.verify import Verdict, verify
from tests.forgery import read_files, write_files
from tests.world import World

SECONDS = 10
SIZE = 1000
OPEN = 250
MUTATIONS = 5000
PARTS = 5

Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements and signatures are read once in all runs: both depend on nothing but bytes."""

    @functools.cache
    def verified(payload_type: str, body: bytes, signatures: Any, keys: Any) -> None:
        verify_raw(RawEnvelope(payload_type, body, {}, signatures), *keys)

    def remember(raw: RawEnvelope, *keys: VerifyKey) -> None:
        verified(raw.payload_type, raw.body, raw.signatures, keys)

    monkeypatch.setattr(replay, "verify_raw", remember)
    monkeypatch.setattr(Opening, "reveal_raw", functools.cache(Opening.reveal_raw))


@dataclass(frozen=True)
class Export:
    """A sound export, and others of the same log."""

    world: World
    path: Path
    files: Files
    others: list[Files]


def extras() -> Extras:
    return Extras(
        sealed={index: b"sealed %d" % index for index in range(300, 420)},
        tag_keys=b"{}\n",
        journals=(b"journal\n", b"another\n"),
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Export:
    world = World(tmp_path_factory.mktemp("world"), providers=4, terms={"uses": 1000})
    folder = tmp_path_factory.mktemp("exports")
    others = []
    while world.log.size < SIZE:
        if SIZE - world.log.size > 11:
            world.one_use()
        else:
            world.put(world.job())
        if world.log.size in range(300, 311) or world.log.size in range(700, 711):
            path = world.export(folder / f"at {world.log.size}", range(OPEN), extras=extras())
            others.append(read_files(path))
    # Of the same size, for readers who may see less or more.
    for name, opened in (("less", range(OPEN - 1)), ("more", range(OPEN + 30))):
        others.append(read_files(world.export(folder / name, opened, extras=extras())))
    path = world.export(folder / "newest", range(OPEN), extras=extras())
    return Export(world, path, read_files(path), others)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Export:
    world = World.with_one_use(tmp_path_factory.mktemp("small"), providers=4)
    world.put(world.revoke(world.providers[0], world.providers[0].offer))
    assert world.log.size == 30
    path = world.export(tmp_path_factory.mktemp("small export"))
    return Export(world, path, read_files(path), [])


def refused(export: Export, folder: Path, what: object) -> Verdict:
    start = time.monotonic()
    verdict = verify(folder, export.world.log.vkey)
    assert time.monotonic() - start < SECONDS, what
    assert verdict.status in ("tampered", "incomplete", "untrusted"), what
    told = [*verdict.findings, *verdict.missing]
    assert told, what
    assert all(item.where and item.message for item in told), what
    return verdict


def places(verdict: Verdict) -> set[str]:
    return {item.where.rstrip("/") for item in (*verdict.findings, *verdict.missing)}


def names_one(found: set[str], wanted: set[str]) -> bool:
    """Whether a place found is one of those wanted, or a folder above it."""
    return any(path == place or path.startswith(f"{place}/") for path in wanted for place in found)


# Every byte of a small export.


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["others", "tile", "openings"])
def test_no_byte_of_thirty_entries_can_be_changed(small: Export, tmp_path: Path, name: str):
    chosen = random.Random(f"thirty entries, {name}")
    folders = ("tile", "openings")
    for path, data in small.files.items():
        top = path.split("/")[0]
        if (top if top in folders else "others") != name:
            continue
        folder = linked(small.path, tmp_path / path.replace("/", "-"))
        target = folder / path
        target.unlink()
        changed = bytearray(data)
        for place in range(len(data)):
            changed[place] ^= chosen.randrange(1, 256)
            target.write_bytes(changed)
            verdict = refused(small, folder, (path, place, changed[place]))
            assert path in places(verdict), (path, place)
            changed[place] = data[place]
        target.write_bytes(data)
        assert verify(folder, small.world.log.vkey).status == "sound"


def linked(source: Path, folder: Path) -> Path:
    """The same files in another folder; a file must be replaced before it is written."""
    shutil.copytree(source, folder, copy_function=os.link)
    return folder


# Whatever a seed says.


@dataclass
class Damage:
    """What is done to one export: files in place of others, and deeds on the folder.

    Attributes:
        files: new contents by path; None removes the file.
        deeds: called with the folder at last.
        places: of which the verdict must name one; any will do where there is none.
    """

    files: dict[str, bytes | None]
    places: set[str]
    deeds: tuple[Callable[[Path], object], ...] = ()


Maker = Callable[[random.Random, Export], Damage]


def one(name: str, data: bytes | None) -> Damage:
    return Damage({name: data}, {name})


def any_file(chosen: random.Random, export: Export) -> tuple[str, bytes]:
    # Kinds of file first: the few small ones would hardly be chosen among all bytes.
    name = chosen.choice(sorted(export.files))
    return name, export.files[name]


def flip(chosen: random.Random, export: Export) -> Damage:
    name, data = any_file(chosen, export)
    changed = bytearray(data)
    for _ in range(chosen.choice((1, 1, 1, 2, 20))):
        changed[chosen.randrange(len(changed))] ^= chosen.randrange(1, 256)
    return one(name, bytes(changed))


def cut(chosen: random.Random, export: Export) -> Damage:
    name, data = any_file(chosen, export)
    return one(name, data[: chosen.randrange(len(data))])


def cut_out(chosen: random.Random, export: Export) -> Damage:
    name, data = any_file(chosen, export)
    start = chosen.randrange(len(data))
    stop = chosen.randrange(start, len(data)) + 1
    return one(name, data[:start] + data[stop:])


def repeat(chosen: random.Random, export: Export) -> Damage:
    name, data = any_file(chosen, export)
    start = chosen.randrange(len(data))
    stop = chosen.randrange(start, len(data)) + 1
    return one(name, data[:stop] + data[start:])


def zeros(chosen: random.Random, export: Export) -> Damage:
    name, data = any_file(chosen, export)
    return one(name, bytes(len(data)))


def delete(chosen: random.Random, export: Export) -> Damage:
    gone = chosen.sample(sorted(export.files), chosen.choice((1, 1, 2, 5)))
    # Without a manifest nothing else can be named.
    return Damage(dict.fromkeys(gone), {FILE} if FILE in gone else set(gone))


def swap_files(chosen: random.Random, export: Export) -> Damage:
    pairs = [
        (a, b) for a in export.files for b in export.files if export.files[a] != export.files[b]
    ]
    first, second = chosen.choice(pairs)
    files = {first: export.files[second], second: export.files[first]}
    return Damage(dict(files), {first, second})


def swap_tiles(chosen: random.Random, export: Export) -> Damage:
    row = chosen.choice(("tile/entries/", "tile/0/"))
    first, second = chosen.sample([name for name in sorted(export.files) if row in name], 2)
    files = {first: export.files[second], second: export.files[first]}
    return Damage(dict(files), {first, second})


def swap_entries(chosen: random.Random, export: Export) -> Damage:
    names = [name for name in sorted(export.files) if name.startswith("tile/entries/")]
    first, second = chosen.choice(names), chosen.choice(names)
    bundles = {name: bundle(export.files[name]) for name in (first, second)}
    left, right = chosen.randrange(len(bundles[first])), chosen.randrange(len(bundles[second]))
    if first == second and left == right:
        left = (left + 1) % len(bundles[first])
    bundles[first][left], bundles[second][right] = bundles[second][right], bundles[first][left]
    return Damage({name: encode_bundle(raw) for name, raw in bundles.items()}, {first, second})


def lose_or_double_entry(chosen: random.Random, export: Export) -> Damage:
    name = chosen.choice([n for n in sorted(export.files) if n.startswith("tile/entries/")])
    raw = bundle(export.files[name])
    place = chosen.randrange(len(raw))
    raw[place : place + 1] = chosen.choice(([], [raw[place]] * 2))
    return one(name, encode_bundle(raw))


def bundle(data: bytes) -> list[bytes]:
    count, position = 0, 0
    while position < len(data):
        position += 2 + int.from_bytes(data[position : position + 2], "big")
        count += 1
    return decode_bundle(data, count)


def change_lines(chosen: random.Random, export: Export) -> Damage:
    name = chosen.choice([FILES, "openings/000", "sealed/001"])
    lines = export.files[name].splitlines(keepends=True)
    first, second = chosen.sample(range(len(lines)), 2)
    deed = chosen.randrange(3)
    if deed == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif deed == 1:
        del lines[first]
    else:
        lines.insert(second, lines[first])
    changed = b"".join(lines)
    return flip(chosen, export) if changed == export.files[name] else one(name, changed)


SIGNED = (FILE, FILES, SPANS, CHECKPOINT)


def replay_older(chosen: random.Random, export: Export) -> Damage:
    """Some files of another export of the same log, all validly signed, in place of these."""
    other = chosen.choice(export.others)
    differ = [name for name, data in other.items() if export.files.get(name) != data]
    signed = [name for name in SIGNED if name in differ]
    if chosen.randrange(2):
        taken = chosen.sample(signed, chosen.randrange(1, len(signed) + 1))
        if set(taken) == set(differ) and set(other) == set(export.files):
            taken = taken[1:] or [differ[0]]
    else:
        taken = chosen.sample(differ, chosen.randrange(1, len(differ)))
    # The whole of another export would be sound: something of this one is left for sure.
    left = {*differ, *(name for name in export.files if name not in other)}
    if left <= set(taken):
        taken = taken[1:]
    return Damage({name: other[name] for name in taken}, set())


def older_tiles(chosen: random.Random, export: Export) -> Damage:
    other = chosen.choice(export.others[:2])
    names = [n for n in sorted(other) if n.startswith("tile/") and n not in export.files]
    name = chosen.choice(names)
    return one(name, other[name])


def add(chosen: random.Random, export: Export) -> Damage:
    names = ["note.txt", ".hidden", "tile/0/004", "tile/2/000.p/1", "openings/001", "journals/002"]
    names += ["succession/001", "sealed/002", "a/b/c", "tile/entries/003.p/231", "manifest~"]
    name = chosen.choice(names)
    data = chosen.choice([b"", b"x", *export.files.values()])
    return one(name, data)


def grow(chosen: random.Random, export: Export) -> Damage:
    name, data = any_file(chosen, export)
    return one(name, data + chosen.choice((b"\n", b"\0", b" ", data, chosen.randbytes(50))))


def rename(chosen: random.Random, export: Export) -> Damage:
    name, data = any_file(chosen, export)
    return Damage({name: None, f"{name}x": data}, {FILE} if name == FILE else {name})


def make_link(chosen: random.Random, export: Export) -> Damage:
    name, _ = any_file(chosen, export)

    def deed(folder: Path) -> None:
        outside = folder.with_name(f"{folder.name} outside")
        shutil.move(folder / name, outside)
        (folder / name).symlink_to(outside)

    return Damage({}, {name}, (deed,))


def link_folder(chosen: random.Random, export: Export) -> Damage:
    name = chosen.choice(["tile", "tile/0", "tile/entries", "openings", "sealed", "journals"])
    below = {path for path in export.files if path.startswith(f"{name}/")}

    def deed(folder: Path) -> None:
        outside = folder.with_name(f"{folder.name} outside")
        shutil.move(folder / name, outside)
        (folder / name).symlink_to(outside)

    return Damage({}, below | {name}, (deed,))


def strange_kind(chosen: random.Random, export: Export) -> Damage:
    name, _ = any_file(chosen, export)

    def deed(folder: Path) -> None:
        (folder / name).unlink()
        chosen.choice((os.mkfifo, os.mkdir))(folder / name)

    return Damage({}, {name}, (deed,))


def sparse(chosen: random.Random, export: Export) -> Damage:
    name, _ = any_file(chosen, export)

    def deed(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(data)
        os.truncate(folder / name, 10_000_000_000)

    return Damage({}, {name}, (deed,))


MAKERS: dict[str, Maker] = {
    item.__name__: item
    for item in (
        *(flip, cut, cut_out, repeat, zeros, delete, swap_files, swap_tiles, swap_entries),
        *(lose_or_double_entry, change_lines, replay_older, older_tiles, add, grow, rename),
        *(make_link, link_folder, strange_kind, sparse),
    )
}


def damages(seed: str, count: int, export: Export) -> Iterator[tuple[str, Damage]]:
    chosen = random.Random(seed)
    names = list(MAKERS)
    for number in range(count):
        # Replays are what only somebody with older exports can do, so they come twice as often.
        name = (*names, "replay_older")[number % (len(names) + 1)]
        yield f"{seed}, {number}: {name}", MAKERS[name](chosen, export)


def strike(export: Export, folder: Path, damage: Damage) -> None:
    linked(export.path, folder)
    for name, data in damage.files.items():
        (folder / name).unlink(missing_ok=True)
        if data is not None:
            write_files(folder, {name: data})
    for deed in damage.deeds:
        deed(folder)


def all_refused(export: Export, tmp_path: Path, seed: str, count: int) -> None:
    for what, damage in damages(seed, count, export):
        folder = tmp_path / "apart" / "struck"
        strike(export, folder, damage)
        found = places(refused(export, folder, what))
        assert not damage.places or names_one(found, damage.places), (what, found)
        shutil.rmtree(folder.parent)


@pytest.mark.slow
def test_the_large_export_is_sound(large: Export):
    verdict = verify(large.path, large.world.log.vkey)
    assert (verdict.status, verdict.size, verdict.sealed) == ("sound", SIZE, SIZE - OPEN)
    assert len(large.others) == 4


@pytest.mark.slow
def test_a_hundred_mutations_of_a_thousand_entries(large: Export, tmp_path: Path):
    all_refused(large, tmp_path, "a hundred", 105)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_five_thousand_mutations_of_a_thousand_entries(large: Export, tmp_path: Path, part: int):
    all_refused(large, tmp_path, f"five thousand, part {part}", MUTATIONS // PARTS)
