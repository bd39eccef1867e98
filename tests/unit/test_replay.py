"""Reading ahead in other processes changes no verdict, and vouches for nothing unverified."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import note
from ledger import verify as verifier
from ledger.entry import Entry, Opening, commitment
from ledger.errors import SignatureError
from ledger.export import Extras
from ledger.folder import Folder
from ledger.keys import VerifyKey
from ledger.manifest import FILE, FILES, SPANS, Contents, read_manifest, read_tables
from ledger.replay import Part, Reader, Vouched, keys_of
from ledger.statements import Unverified, read
from ledger.tiles import encode_bundle
from ledger.verify import Plan, Verdict, audit, verify
from tests.drafts import key_of
from tests.forgery import chain, insecure_export, insecure_manifest, read_files, write_files
from tests.world import World

BOTH = (1, 2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two bundles of entries; a key is replaced in the second."""
    world = World(tmp_path_factory.mktemp("world"), providers=2)
    while world.log.size < 258:
        world.put(world.job())
    first = world.providers[0]
    world.put(world.rotate(first, first.id, key_of(f"{first.name}/second")))
    first.key = world.keys[first.id] = key_of(f"{first.name}/second")
    while world.log.size < 282:
        world.put(world.job() if world.log.size % 3 else world.offer(first))
    return world


@pytest.fixture(autouse=True)
def a_process_for_every_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "FEW_BUNDLES", 0)


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.export(tmp_path_factory.mktemp("export") / "x")


def contents_of(path: Path, world: World) -> Contents:
    files = read_files(path)
    text = note.open_note(files[FILE], [world.log.vkey]).text
    return read_tables(read_manifest(text), files[FILES], files[SPANS])


def verdicts(world: World, path: Path) -> list[Verdict]:
    return [verify(path, world.log.vkey, Plan(processes=processes)) for processes in BOTH]


def test_any_number_of_processes_says_the_same(world: World, folder: Path):
    one, two = verdicts(world, folder)
    assert one.status == "sound"
    assert one == two
    histories = [
        audit(folder, world.log.vkey, Plan(processes=processes)).history for processes in BOTH
    ]
    assert histories[0].by_id == histories[1].by_id
    assert histories[0].entries == histories[1].entries


def forged(world: World, folder: Path, lies: dict[int, bytes]) -> Path:
    """The world's export with other statements behind some entries, committed to as they should."""
    entries, openings = world.entries(), world.openings()
    for index, envelope in lies.items():
        entries[index] = replace(entries[index], commitment=commitment(bytes(32), envelope))
        openings[index] = Opening(index, bytes(32), envelope)
    return insecure_export(folder, world.log_key, chain(entries), openings)


def of_kind(world: World, kind: str) -> list[int]:
    return [entry.index for entry in world.entries() if entry.kind == kind]


def last_of(world: World, kind: str) -> int:
    return max(of_kind(world, kind))


def lies(world: World) -> dict[int, tuple[str, bytes]]:
    """For some entries another envelope, and what the verdict must say of it."""
    jobs, offers = of_kind(world, "job")[::-1], of_kind(world, "offer")[::-1]
    offer = read(world.openings()[offers[0]].envelope).statement
    job = read(world.openings()[jobs[0]].envelope).statement
    provider = world.providers[0]
    return {
        # By a stranger, by another participant, by one too many.
        jobs[0]: ("bad_signature", job.sign(key_of("stranger.example"))),
        jobs[1]: ("bad_signature", job.sign(world.providers[1].key)),
        jobs[2]: ("bad_signature", job.sign(world.researcher.key, provider.key)),
        jobs[3]: ("malformed_statement", b"{}"),
        jobs[4]: ("wrong_opening", world.openings()[offers[0]].envelope),
        # By the key from before; by the right one, a bit changed.
        offers[0]: ("bad_signature", offer.sign(key_of(provider.name))),
        offers[1]: ("bad_signature", bent(offer.sign(provider.key))),
    }


def bent(envelope: bytes) -> bytes:
    start = envelope.index(b'"sig":"') + 7
    letter = b"A" if envelope[start : start + 1] != b"A" else b"B"
    return envelope[:start] + letter + envelope[start + 1 :]


def test_lies_are_found_by_any_number_of_processes(world: World, tmp_path: Path):
    told = lies(world)
    folder = forged(world, tmp_path / "x", {index: item[1] for index, item in told.items()})
    one, two = verdicts(world, folder)
    assert [(item.code, item.where) for item in one.findings] == [
        (told[index][0], f"entry {index}") for index in sorted(told)
    ]
    assert one == two


def test_what_was_verified_ahead_counts_only_under_the_right_keys(world: World):
    opening = world.openings()[last_of(world, "job")]
    plain = read(opening.envelope)
    right, wrong = world.researcher.key.verify_key, world.operator.key.verify_key
    under = frozenset({right.text})
    vouched = Vouched(plain.statement, plain.envelope, plain.id, under)
    assert vouched.verify(right) == plain.statement
    for keys in ((wrong,), (), (right, wrong), (VerifyKey("other", right.public),)):
        with pytest.raises(SignatureError):
            vouched.verify(*keys)
    # Without a word from ahead it is verified then.
    unknown = Vouched(plain.statement, plain.envelope, plain.id)
    assert unknown.verify(right) == plain.statement
    with pytest.raises(SignatureError):
        unknown.verify(wrong)
    with pytest.raises(SignatureError):
        unknown.verify()
    # The twin: a reader that vouched for what it did not verify would be believed.
    false = Vouched(plain.statement, plain.envelope, plain.id, frozenset({wrong.text}))
    assert false.verify(wrong) == plain.statement


def parts(world: World, folder: Path, keys: Sequence[str]) -> list[Part]:
    with Folder(folder) as opened:
        reader = Reader(opened, contents_of(folder, world), set())
        return [reader.read(number, keys if number == 0 else ()) for number in range(2)]


def test_a_reader_vouches_for_every_signature_or_for_none(world: World, folder: Path):
    history = audit(folder, world.log.vkey).history
    told = [text for item in world.openings() for text in keys_of(read(item.envelope).statement)]
    for keys in (told, told[:1], (), ["nonsense", *told]):
        items = [item for part in parts(world, folder, keys) for item in part.items]
        assert len(items) == world.log.size
        for item in items:
            opened = item.opened
            assert isinstance(opened, Vouched)
            plain = Unverified(opened.statement, opened.envelope)
            assert plain.id == opened.id
            if opened.under:
                plain.verify(*(VerifyKey.from_text(text) for text in opened.under))
        if len(keys) >= len(told):
            assert all(isinstance(i.opened, Vouched) and i.opened.under for i in items)
    assert history.size == world.log.size


def test_keys_come_from_all_that_names_keys(tmp_path: Path):
    world = World.with_every_kind(tmp_path)
    named = {item.kind: keys_of(item) for item in world.statements.values() if keys_of(item)}
    assert set(named) == {"participant", "asset", "rotation"}
    assert all(VerifyKey.from_text(text) for texts in named.values() for text in texts)


# What else an export carries.


EXTRAS = Extras(sealed={5: b"five", 6: b"six"}, tag_keys=b"keys\n", journals=(b"one\n", b"two\n"))


def test_sealed_entries_are_counted_line_by_line(world: World, tmp_path: Path):
    path = world.export(tmp_path / "x", [0, 1, 2, 3], extras=EXTRAS)
    verdict = verify(path, world.log.vkey)
    assert (verdict.status, verdict.enclosed) == ("sound", 2)
    assert verdict.checked["sealed_lines"] == 2
    files = read_files(path)
    assert files["sealed/000"] == b"five\nsix\n"
    contents = contents_of(path, world)
    assert contents.numbered("journals") == ["journals/000", "journals/001"]
    for wrong in (b"five\n", b"five\nsix\nseven\n", b"five\n\n", b"five\nsix"):
        changed = insecure_manifest(world.log_key, contents.openness, files | {"sealed/000": wrong})
        other = tmp_path / f"{wrong!r}"
        write_files(other, changed)
        found = verify(other, world.log.vkey).findings
        assert [(item.code, item.where) for item in found] == [("damaged", "sealed/000")]


@pytest.mark.parametrize("name", ["sealed/000", "tag-keys", "journals/001"])
def test_files_that_others_read_are_those_that_were_signed(world: World, tmp_path: Path, name: str):
    path = world.export(tmp_path / "x", [0, 1, 2, 3], extras=EXTRAS)
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[:-1] + b"x")
    verdict = verify(path, world.log.vkey)
    assert [(item.code, item.where) for item in verdict.findings] == [("damaged", name)]
    (path / name).unlink()
    verdict = verify(path, world.log.vkey)
    assert [(item.code, item.where) for item in verdict.missing] == [("missing_file", name)]


def test_an_erasure_must_be_logged(tmp_path: Path):
    world = World.with_every_kind(tmp_path / "world")
    logged = next(iter(world.log.history.shredded))
    kept = [index for index in range(world.log.size) if index != logged]
    path = world.export(tmp_path / "x", kept, extras=Extras(erased=[logged]))
    verdict = verify(path, world.log.vkey)
    assert (verdict.erased, verdict.findings) == (1, [])
    # The twin: another entry, of which no shred entry speaks.
    other = world.log.index_of(world.providers[0].offer)
    kept = [index for index in kept if index != other]
    path = world.export(tmp_path / "y", kept, extras=Extras(erased=[logged, other]))
    findings = verify(path, world.log.vkey).findings
    assert [(item.code, item.where) for item in findings] == [("erased_unlogged", f"entry {other}")]
    # Where the shred entry is sealed itself, nobody knows.
    shred = last_of(world, "shred")
    kept = [index for index in kept if index != shred]
    path = world.export(tmp_path / "z", kept, extras=Extras(erased=[logged, other]))
    missing = verify(path, world.log.vkey).missing
    assert {("sealed_evidence", f"entry {index}") for index in (logged, other)} <= {
        (item.code, item.where) for item in missing
    }


def test_few_entries_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    real = verifier.in_order

    def spy(*args: object, processes: int, **more: object) -> object:
        seen.append(processes)
        return real(*args, processes=processes, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(verifier, "in_order", spy)
    monkeypatch.setattr(verifier, "FEW_BUNDLES", 2)
    world = World(tmp_path / "world", providers=1)
    assert verify(world.export(tmp_path / "x"), world.log.vkey, Plan(processes=2)).status == "sound"
    assert seen == [1]


def test_a_dead_process_is_no_evidence_against_the_log(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    parent, real = os.getpid(), Entry.from_bytes

    def die(data: bytes) -> Entry:
        if os.getpid() != parent and b'"index":270,' in data:
            os._exit(1)
        return real(data)

    monkeypatch.setattr(Entry, "from_bytes", die)
    verdict = verify(folder, world.log.vkey, Plan(processes=2))
    assert verdict.status == "incomplete"
    assert [(i.code, i.where) for i in verdict.missing] == [("check_failed", "entries 256 to 511")]


# Openings and bundles that the manifest lists as they are.


BUNDLE = "tile/entries/000"


def lines_of(world: World, *indexes: int) -> bytes:
    return b"".join(world.openings()[index].to_bytes() + b"\n" for index in indexes)


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (lambda world: lines_of(world, 0, 1), []),
        (lambda world: lines_of(world, 0), [("missing_opening", "entry 1")]),
        (lambda world: lines_of(world, 1)[:-1], "does not end"),
        (lambda world: lines_of(world, 0, 1, 1), "opens entry 1, which it should not"),
        (lambda world: lines_of(world, 0, 1, 2), "opens entry 2, which it should not"),
        (lambda world: lines_of(world, 0, 1) + b"{}\n", "has index, salt and envelope"),
    ],
)
def test_each_entry_declared_open_is_opened_once(
    world: World, tmp_path: Path, shown: Callable[[World], bytes], told: object
):
    openings = world.openings()[:2]
    folder = insecure_export(
        tmp_path / "x",
        world.log_key,
        world.entries(),
        openings,
        changed={"openings/000": shown(world)},
    )
    one, two = verdicts(world, folder)
    assert one == two
    if isinstance(told, str):
        (damaged,) = one.findings
        assert (damaged.code, damaged.where) == ("damaged", "openings/000")
        assert told in damaged.message
    else:
        assert one.findings == []
        assert [(item.code, item.where) for item in one.missing] == told


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_bundle_outside_its_frame_opens_nothing(world: World, tmp_path: Path, cut: int):
    raw = [item.to_bytes() for item in world.entries()[:256]]
    data = encode_bundle(raw)
    folder = insecure_export(
        tmp_path / "x",
        world.log_key,
        world.entries(),
        world.openings(),
        changed={BUNDLE: data[: len(data) - cut]},
    )
    one, two = verdicts(world, folder)
    assert one == two
    found = [(item.code, item.where) for item in one.findings]
    assert found[:1] == ([("damaged", BUNDLE)] if cut else [])
    assert (one.status == "sound") == (not cut)


def test_a_bundle_that_is_gone_is_missed_and_the_rest_is_read(
    world: World, folder: Path, tmp_path: Path
):
    files = read_files(folder)
    assert files.pop(BUNDLE)
    write_files(tmp_path / "x", files)
    one, two = verdicts(world, tmp_path / "x")
    assert one == two
    assert ("missing_file", BUNDLE) in {(item.code, item.where) for item in one.missing}
    assert one.status != "sound"
