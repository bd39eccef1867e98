"""The verdict: whatever a folder holds, it comes, and it never says more than was checked.

The damage that can be done to a folder on its way is in tests/properties/test_audit_mutations.py,
the lies of each rule in test_rules.py. Here the holder of the log's key writes structures that no
honest program would.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import note
from ledger.encoding import canonical, sha256_text
from ledger.entry import Entry, Opening, commitment
from ledger.errors import EncodingError
from ledger.keys import SigningKey
from ledger.manifest import CHECKPOINT, FILE, FILES, HEADING, SPANS, Openness, Table
from ledger.merkle import leaf_hash
from ledger.statements import KINDS, read
from ledger.verify import MAX_FINDINGS, read_and_verify, verify
from tests.drafts import key_of
from tests.forgery import chain, insecure_export, insecure_manifest, read_files, write_files
from tests.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World.with_one_use(tmp_path_factory.mktemp("world"), providers=2)
    world.put(world.revoke(world.providers[0], world.providers[0].offer))
    return world


def test_the_verdict_counts_what_was_checked(world: World):
    verdict = world.audit()
    assert verdict.status == "sound"
    assert verdict.checked == {
        "files": 7,
        "tiles": 1,
        "entries": 18,
        "signatures": 20,
        "participant": 4,
        "asset": 2,
        "offer": 2,
        "agreement": 2,
        "job": 1,
        "grant": 2,
        "receipt": 2,
        "release": 1,
        "contributions": 4,
        "settlement": 1,
        "settled_cents": 2000,
        "revocation": 1,
    }
    assert [party["name"] for party in verdict.participants] == [
        party.name for party in world.parties
    ]


def test_what_was_read_comes_with_the_verdict(world: World, tmp_path: Path):
    verdict, history = read_and_verify(world.export(tmp_path / "x"), world.log.vkey)
    assert verdict.status == "sound"
    assert history.by_id.keys() == world.statements.keys()


@pytest.mark.parametrize("size", [255, 256, 257, 513])
def test_logs_that_fill_their_tiles(tmp_path: Path, size: int):
    # Entries that stay sealed but for the first: structure alone, quickly made.
    operator = World(tmp_path / "world", providers=0)
    first = operator.entries()[0]
    entries = chain([first, *(replace(first, index=number) for number in range(1, size))])
    folder = insecure_export(tmp_path / "x", operator.log_key, entries, operator.openings()[:1])
    verdict = verify(folder, operator.log.vkey)
    assert (verdict.status, verdict.size, verdict.sealed) == ("sound", size, size - 1)
    # The twin: one hash of the last tile.
    name = max(name for name in read_files(folder) if name.startswith("tile/0/"))
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    assert [item.where for item in verify(folder, operator.log.vkey).findings] == [name]


def test_findings_are_bounded(world: World, tmp_path: Path):
    first = world.entries()[0]
    entries = [first] * 400
    folder = insecure_export(tmp_path / "x", world.log_key, entries, world.openings()[:1])
    verdict = verify(folder, world.log.vkey)
    assert (verdict.status, len(verdict.findings)) == ("tampered", MAX_FINDINGS)


# A manifest by somebody who holds the key that the folder claims.


def openness_of(files: dict[str, bytes], size: int) -> Openness:
    assert files[SPANS] == b"opened 0 %d\n" % size
    return Openness.of(size, range(size))


def with_manifest(world: World, path: Path, **changes: Any) -> Path:
    """The world's export under a manifest with other fields."""
    files = read_files(world.export(path))
    openness = openness_of(files, world.log.size)
    write_files(path, insecure_manifest(world.log_key, openness, files, **changes))
    return path


def with_tables(world: World, path: Path, **tables: bytes) -> Path:
    """The world's export with other tables, which its manifest covers."""
    changes = {name: Table.of(data).payload() for name, data in tables.items()}
    write_files(with_manifest(world, path, **changes), tables)
    return path


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 2**53 - 1},
        {"size": 2**24 + 1},
        {"origin": "other.example/log"},
        {"scope": "two\nlines"},
        {"more": 1},
        {"files": {"length": 1, "digest": sha256_text(b""), "more": 1}},
        {"files": {"length": 2**40, "digest": sha256_text(b"")}},
        {"spans": {"length": -1, "digest": sha256_text(b"")}},
        {"spans": {"length": 2**40, "digest": sha256_text(b"")}},
    ],
)
def test_a_manifest_that_no_export_has(world: World, tmp_path: Path, changes: dict[str, Any]):
    assert verify(with_manifest(world, tmp_path / "twin"), world.log.vkey).status == "sound"
    folder = with_manifest(world, tmp_path / "x", **changes)
    # Without a key a folder is never more than untrusted, but what is wrong is named as well.
    for key, status in ((world.log.vkey, "tampered"), (None, "untrusted")):
        verdict = verify(folder, key)
        assert (verdict.status, bool(verdict.findings)) == (status, True)
        assert [(item.code, item.where) for item in verdict.findings] == [("damaged", FILE)]


ZERO = b"0" * 64
FILES_TABLES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "out of the folder": lambda data: data + ZERO + b" 1 ../outside\n",
    "out of the folder, deep": lambda data: data + ZERO + b" 1 tile/../../outside\n",
    "from the root": replaced(b" checkpoint\n", b" /etc/hostname\n"),
    "backslash": lambda data: data + ZERO + b" 1 tile\\0\n",
    "twice": lambda data: data.splitlines(keepends=True)[0] + data,
    "not sorted": lambda data: b"".join(reversed(data.splitlines(keepends=True))),
    "cut": lambda data: data[:-1],
    "leading zero": replaced(b" 74 ", b" 074 "),
    "two spaces": replaced(b" checkpoint", b"  checkpoint"),
    "upper case": lambda data: data[:64].upper() + data[64:],
    "one too few": lambda data: data.split(b"\n", 1)[1],
    "one too many": lambda data: data + ZERO + b" 1 tile/entries/001\n",
    "a gap": lambda data: ZERO + b" 1 journals/001\n" + data,
    "a thousand gigabytes": lambda data: re.sub(rb" \d+ tile", b" 99999999999 tile", data),
    "nonsense": lambda _data: b"[" * 100_000,
}


@pytest.mark.parametrize("name", FILES_TABLES)
def test_a_table_of_files_that_no_export_has(world: World, tmp_path: Path, name: str):
    files = read_files(world.export(tmp_path / "twin"))
    (tmp_path / "outside").write_bytes(b"x")
    folder = with_tables(world, tmp_path / "x", files=FILES_TABLES[name](files[FILES]))
    for key, status in ((world.log.vkey, "tampered"), (None, "untrusted")):
        verdict = verify(folder, key)
        assert (verdict.status, bool(verdict.findings)) == (status, True)
        assert [(item.code, item.where) for item in verdict.findings] == [("damaged", FILES)]


@pytest.mark.parametrize(
    "table",
    [
        b"opened 0 99\n",
        b"opened 5 5\n",
        b"opened 0 3\nopened 3 18\n",
        b"opened 3 18\nopened 0 3\n",
        b"opened 0 9\nsealed 8 18\n",
        b"opened -1 18\n",
        b"opened 00 18\n",
        b"opened 0 18",
        b"opened 0 18\n\n",
        b"closed 0 18\n",
        b"opened 0 999999999\n",
        b"nonsense",
    ],
)
def test_a_table_of_spans_that_no_export_has(world: World, tmp_path: Path, table: bytes):
    folder = with_tables(world, tmp_path / "x", spans=table)
    verdict = verify(folder, world.log.vkey)
    assert [(item.code, item.where) for item in verdict.findings] == [("damaged", FILES)]
    assert SPANS in verdict.findings[0].message


def test_lengths_that_would_fill_the_memory_are_refused_before_anything_is_read(
    world: World, tmp_path: Path
):
    files = read_files(world.export(tmp_path / "twin"))[FILES]
    lines = [line.split(b" ") for line in files.splitlines()]
    table = b"".join(b"%s 60000000 %s\n" % (line[0], line[2]) for line in lines)
    more = b"".join(b"%s 67000000 journals/%03d\n" % (ZERO, i) for i in range(1000))
    checkpoint = table.index(b"\n") + 1
    folder = with_tables(
        world, tmp_path / "x", files=table[:checkpoint] + more + table[checkpoint:]
    )
    verdict = verify(folder, None)
    assert (verdict.status, bool(verdict.findings)) == ("untrusted", True)
    assert "are read" in verdict.findings[0].message


def test_a_checkpoint_does_not_pass_for_a_manifest(world: World, tmp_path: Path):
    folder = world.export(tmp_path / "x")
    (folder / FILE).write_bytes(read_files(folder)[CHECKPOINT])
    verdict = verify(folder, world.log.vkey)
    assert [(item.code, item.where) for item in verdict.findings] == [("damaged", FILE)]
    assert HEADING in verdict.findings[0].message


@pytest.mark.parametrize("body", [b"{}", b"[]", b"[" * 300_000, b"", b'{"a":1,"a":2}', b"null"])
def test_a_manifest_that_is_no_manifest(world: World, tmp_path: Path, body: bytes):
    text = f"{HEADING}\n{body.decode()}\n"
    write_files(tmp_path / "x", {FILE: note.sign(text, [world.log_key])})
    assert verify(tmp_path / "x", world.log.vkey).status == "tampered"


@pytest.mark.parametrize("text", [b"", b"nonsense\n", b"\xff\xfe", b"x" * 1024, b"x" * 5000])
def test_a_claimed_key_that_is_no_key(world: World, tmp_path: Path, text: bytes):
    folder = world.export(tmp_path / "x")
    (folder / "log.vkey").write_bytes(text)
    # Without a key a folder is never more than untrusted, but what is wrong is named as well.
    for key, status in ((world.log.vkey, "tampered"), (None, "untrusted")):
        verdict = verify(folder, key)
        assert (verdict.status, bool(verdict.findings)) == (status, True)
        assert verdict.findings[0].where == "log.vkey"


# Any value in the place of any other, signed by whoever should have signed it.


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))
        else:
            yield (*path, key)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
    | st.sampled_from(["participant:" + "0" * 64, sha256_text(b""), "*", "operator"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=5,
)


def damaged(value: Any, data: st.DataObject) -> Any:
    path = data.draw(st.sampled_from(list(places(value))))
    junk = data.draw(JUNK)
    if not path:
        return junk
    changed = copy.deepcopy(value)
    target = changed
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = junk
    return changed


def forged(world: World, folder: Path, index: int, envelope: bytes) -> Path:
    """The world's export with another statement behind one entry, committed to as it should."""
    entries, openings = world.entries(), world.openings()
    entries[index] = replace(entries[index], commitment=commitment(bytes(32), envelope))
    openings[index] = Opening(index, bytes(32), envelope)
    return insecure_export(folder, world.log_key, chain(entries), openings)


ANY_VALUE = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@ANY_VALUE
@given(st.data())
def test_any_payload_gets_a_verdict(
    world: World, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    index = data.draw(st.integers(0, world.log.size - 1))
    statement = read(world.openings()[index].envelope).statement
    keys = [world._key(author) for author in statement.authors()]
    payload = damaged(statement.payload(), data)
    envelope = world.insecure_sign(KINDS[statement.kind], payload, *keys)
    folder = forged(world, tmp_path_factory.mktemp("x") / "x", index, envelope)
    assert verify(folder, world.log.vkey).status in ("sound", "tampered", "incomplete")


@ANY_VALUE
@given(st.data())
def test_any_envelope_gets_a_verdict(
    world: World, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    index = data.draw(st.integers(0, world.log.size - 1))
    value = json.loads(world.openings()[index].envelope)
    envelope = canonical(damaged(value, data))
    folder = forged(world, tmp_path_factory.mktemp("x") / "x", index, envelope)
    same = envelope == world.openings()[index].envelope
    assert verify(folder, world.log.vkey).status == ("sound" if same else "tampered")


@ANY_VALUE
@given(st.data())
def test_any_entry_gets_a_verdict(
    world: World, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    entries: list[Entry | bytes] = [*world.entries()]
    # Not the last, whose time is the operator's word: every other is named by its successor.
    index = data.draw(st.integers(0, world.log.size - 2))
    value = json.loads(world.entries()[index].to_bytes())
    entries[index] = canonical(damaged(value, data))
    folder = insecure_export(
        tmp_path_factory.mktemp("x") / "x", world.log_key, entries, world.openings()
    )
    same = leaf_hash(entries[index]) == leaf_hash(world.entries()[index].to_bytes())
    assert verify(folder, world.log.vkey).status == ("sound" if same else "tampered")


@ANY_VALUE
@given(st.data())
def test_any_manifest_gets_a_verdict(
    world: World, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    folder = world.export(tmp_path_factory.mktemp("x") / "x")
    payload = json.loads((folder / FILE).read_bytes().split(b"\n")[1])
    changed = damaged(payload, data)
    try:
        text = f"{HEADING}\n{canonical(changed).decode()}\n"
    except EncodingError:
        return
    (folder / FILE).write_bytes(note.sign(text, [world.log_key]))
    assert verify(folder, world.log.vkey).status in ("sound", "tampered", "incomplete")


def test_a_stranger_to_the_log_signs_nothing(world: World, tmp_path: Path):
    stranger: SigningKey = key_of("stranger.example")
    statement = world.statements[world.providers[0].asset]
    envelope = statement.sign(stranger)
    index = world.log.index_of(world.providers[0].asset)
    verdict = verify(forged(world, tmp_path / "x", index, envelope), world.log.vkey)
    assert verdict.status == "tampered"
    assert ("bad_signature", f"entry {index}") in [(i.code, i.where) for i in verdict.findings]
