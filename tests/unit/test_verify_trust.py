"""Whose word an export rests on: a key, a policy with witnesses, a key that followed another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import note
from ledger import structure as structures
from ledger import verify as verifier
from ledger.checkpoint import Checkpoint
from ledger.checkpoint import sign as sign_checkpoint
from ledger.cosignature import attach, cosign
from ledger.errors import NoteError, TrustError
from ledger.freshness import anchor, kept_checkpoint
from ledger.keys import CosigningKey, SigningKey
from ledger.manifest import CHECKPOINT, CLAIMED_KEY, FILE, FILES, SPANS, Openness
from ledger.merkle import Tree, leaf_hash, root
from ledger.succession import Succession
from ledger.tiles import layout, tile_bytes
from ledger.trust import Group, Policy, Witness
from ledger.verify import Plan, Verdict, audit, verify
from tests.drafts import key_of
from tests.forgery import insecure_manifest, read_files, write_files
from tests.world import LOG_NAME, World

OLD = key_of(LOG_NAME)
NEW = SigningKey.from_seed(LOG_NAME, b"n" * 32)
WITNESSES = [CosigningKey.from_seed(f"witness{n}.example", bytes([n]) * 32) for n in (1, 2, 3)]
POLICY = Policy(
    (OLD.verify_key,),
    tuple(Witness(f"w{n}", key.verify_key) for n, key in enumerate(WITNESSES, 1)),
    (Group("two", 2, ("w1", "w2", "w3")),),
    "two",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), providers=1)


Change = Callable[[dict[str, bytes]], None]


def write(
    path: Path, world: World, key: SigningKey = OLD, change: Change | None = None, **fields: object
) -> Path:
    """The world's log in an export by any key, its files changed before they are listed."""
    raw = list(world.log.entry_bytes(0, world.log.size))
    tree = Tree.from_leaf_hashes(leaf_hash(item) for item in raw)
    openings = b"".join(item.to_bytes() + b"\n" for item in world.openings())
    files = {
        CHECKPOINT: sign_checkpoint(Checkpoint(LOG_NAME, tree.size, tree.root()), key),
        CLAIMED_KEY: key.verify_key.text.encode() + b"\n",
        "openings/000": openings,
    }
    for tile in layout(tree.size):
        files[tile.path] = tile_bytes(tree, tile, lambda start, stop: raw[start:stop])
    if change is not None:
        change(files)
    openness = Openness.of(tree.size, range(tree.size))
    write_files(path, insecure_manifest(key, openness, files, **fields))
    return path


def cosigned(*times: int) -> Change:
    def change(files: dict[str, bytes]) -> None:
        signed = files[CHECKPOINT]
        pairs = zip(WITNESSES, times, strict=False)
        files[CHECKPOINT] = attach(signed, [cosign(signed, key, time) for key, time in pairs])

    return change


def found(verdict: Verdict) -> list[tuple[str, str]]:
    return [(item.code, item.where) for item in (*verdict.findings, *verdict.missing)]


def test_a_quorum_of_witnesses_shows_how_new_an_export_is(world: World, tmp_path: Path):
    folder = write(tmp_path / "x", world, change=cosigned(1_767_225_600, 1_767_225_700))
    done = audit(folder, POLICY)
    verdict = done.verdict
    assert (verdict.status, verdict.witnessed_at) == ("sound", 1_767_225_600)
    assert [item["name"] for item in verdict.witnesses] == ["w1", "w2"]
    assert verdict.freshness == "a quorum of witnesses saw it at 2026-01-01 00:00:00Z"
    assert done.trusted is not None
    assert done.contents is not None
    # The twin: under a key alone nobody looks at witnesses.
    verdict = verify(folder, OLD.verify_key)
    assert (verdict.status, verdict.witnessed_at, verdict.witnesses) == ("sound", None, [])
    assert verdict.freshness == "nothing here shows that this is the newest state"


def test_a_quorum_that_is_not_met_vouches_for_nothing(world: World, tmp_path: Path):
    verdict = verify(write(tmp_path / "x", world, change=cosigned(1)), POLICY)
    assert (verdict.status, found(verdict)) == ("untrusted", [("untrusted", CHECKPOINT)])
    assert "1 of the 2" in verdict.missing[0].message


def test_a_cosignature_that_does_not_verify_spoils_the_checkpoint(world: World, tmp_path: Path):
    def spoil(files: dict[str, bytes]) -> None:
        other = sign_checkpoint(Checkpoint(LOG_NAME, 1, bytes(32)), OLD)
        lines = [cosign(other, key, 1) for key in WITNESSES]
        files[CHECKPOINT] = attach(files[CHECKPOINT], lines)

    verdict = verify(write(tmp_path / "x", world, change=spoil), POLICY)
    assert (verdict.status, found(verdict)) == ("tampered", [("damaged", CHECKPOINT)])


# A log that changed its key.


def succession(world: World, size: int, at: bytes | None = None) -> bytes:
    leaves = [leaf_hash(item) for item in world.log.entry_bytes(0, size)]
    head = Checkpoint(LOG_NAME, size, at or root(leaves))
    return Succession(head, OLD.verify_key, NEW.verify_key).sign(NEW, OLD)


def carrying(*notes: bytes) -> Change:
    def change(files: dict[str, bytes]) -> None:
        files |= {f"succession/{number:03d}": data for number, data in enumerate(notes)}

    return change


@pytest.mark.parametrize("size", [3, 6])
def test_an_export_by_the_next_key_is_followed(world: World, tmp_path: Path, size: int):
    assert world.log.size == 6
    folder = write(tmp_path / "x", world, NEW, carrying(succession(world, size)))
    verdict = verify(folder, OLD.verify_key)
    assert (verdict.status, found(verdict)) == ("sound", [])
    assert verdict.key_fingerprint == NEW.verify_key.fingerprint
    assert verdict.checked["succession_heads"] == 1
    # The twin: without the succession the next key is a stranger's.
    verdict = verify(write(tmp_path / "y", world, NEW), OLD.verify_key)
    assert (verdict.status, found(verdict)) == ("untrusted", [("untrusted", FILE)])


def test_the_next_key_must_keep_the_history(world: World, tmp_path: Path):
    """It was signed into its office at another tree than the one that it shows now."""
    other = succession(world, 3, at=bytes(32))
    verdict = verify(write(tmp_path / "x", world, NEW, carrying(other)), OLD.verify_key)
    assert (verdict.status, found(verdict)) == ("tampered", [("split_view", CHECKPOINT)])


def test_a_key_may_sign_what_came_before_its_successor(world: World, tmp_path: Path):
    later = Checkpoint(LOG_NAME, 1000, bytes(32))
    signed = Succession(later, OLD.verify_key, NEW.verify_key).sign(NEW, OLD)
    verdict = verify(write(tmp_path / "x", world, OLD, carrying(signed)), OLD.verify_key)
    assert (verdict.status, found(verdict)) == ("sound", [])


@pytest.mark.parametrize("data", [b"", b"nonsense", b"x" * 2_000_000])
def test_a_succession_that_is_none(world: World, tmp_path: Path, data: bytes):
    verdict = verify(write(tmp_path / "x", world, change=carrying(data)), OLD.verify_key)
    assert verdict.status == "tampered"
    assert [code for code, _ in found(verdict)] == ["damaged"]


def test_more_successions_than_anyone_reads(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verifier, "MAX_SUCCESSIONS", 1)
    signed = succession(world, 3)
    folder = write(tmp_path / "x", world, NEW, carrying(signed, signed))
    assert verify(folder, OLD.verify_key).status == "sound"


# Parts that do not belong to each other.


def test_a_manifest_and_a_checkpoint_by_two_keys(world: World, tmp_path: Path):
    change = carrying(succession(world, world.log.size))
    by_old = read_files(write(tmp_path / "old", world, OLD, change))[CHECKPOINT]

    def mixed(files: dict[str, bytes]) -> None:
        change(files)
        files[CHECKPOINT] = by_old

    verdict = verify(write(tmp_path / "x", world, NEW, mixed), OLD.verify_key)
    assert (verdict.status, found(verdict)) == ("tampered", [("damaged", CHECKPOINT)])
    assert "another key" in verdict.findings[0].message


def test_a_checkpoint_of_another_size(world: World, tmp_path: Path):
    def older(files: dict[str, bytes]) -> None:
        files[CHECKPOINT] = sign_checkpoint(Checkpoint(LOG_NAME, 1, bytes(32)), OLD)

    verdict = verify(write(tmp_path / "x", world, change=older), OLD.verify_key)
    assert found(verdict) == [("damaged", CHECKPOINT)]
    assert "covers 1 entries" in verdict.findings[0].message


@pytest.mark.parametrize("name", [FILES, SPANS, CHECKPOINT, FILE])
def test_a_part_that_is_gone(world: World, tmp_path: Path, name: str):
    folder = write(tmp_path / "x", world)
    (folder / name).unlink()
    verdict = verify(folder, OLD.verify_key)
    assert (verdict.status, [where for _, where in found(verdict)]) == ("incomplete", [name])


def test_a_file_that_the_system_does_not_give(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write(tmp_path / "x", world)
    real = structures.Folder.read_listed

    def refuse(self: structures.Folder, listed: structures.File) -> bytes:
        if listed.path == "openings/000":
            raise PermissionError(13, "Permission denied")
        return real(self, listed)

    monkeypatch.setattr(structures.Folder, "read_listed", refuse)
    verdict = verify(folder, OLD.verify_key)
    assert ("damaged", "openings/000") in found(verdict)
    assert verdict.findings[0].message == "Permission denied"


# What was kept.


def test_what_was_kept_is_of_this_log():
    signed = sign_checkpoint(Checkpoint(LOG_NAME, 1, bytes(32)), OLD)
    assert anchor(signed, [OLD.verify_key]).checkpoint.size == 1
    proof = b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + signed
    assert kept_checkpoint(proof) == signed
    with pytest.raises(NoteError, match="ends before its checkpoint"):
        kept_checkpoint(b"c2sp.org/tlog-proof@v1\nindex 0\n")
    stranger = key_of("other.example")
    text = Checkpoint(LOG_NAME, 1, bytes(32)).text()
    with pytest.raises(TrustError, match="another log"):
        anchor(note.sign(text, [stranger]), [stranger.verify_key])


def test_witnesses_and_what_was_kept_are_told_together(world: World, tmp_path: Path):
    folder = write(tmp_path / "x", world, change=cosigned(60, 60, 60))
    kept = (folder / CHECKPOINT).read_bytes()
    verdict = verify(folder, POLICY, Plan(kept=[kept]))
    assert verdict.freshness == (
        "a quorum of witnesses saw it at 1970-01-01 00:01:00Z; "
        f"it is not older than the {world.log.size} entries that you kept"
    )


@pytest.mark.parametrize("key", [OLD, NEW])
def test_the_key_that_an_export_claims_is_the_one_that_signed(
    world: World, tmp_path: Path, key: SigningKey
):
    def claim(files: dict[str, bytes]) -> None:
        files[CLAIMED_KEY] = key.verify_key.text.encode() + b"\n"

    verdict = verify(write(tmp_path / "x", world, change=claim), OLD.verify_key)
    assert found(verdict) == ([] if key is OLD else [("damaged", CLAIMED_KEY)])


def test_nothing_lies_beside_what_is_listed(world: World, tmp_path: Path):
    folder = write(tmp_path / "x", world)
    assert found(verify(folder, OLD.verify_key)) == []
    (folder / "tile" / "more").write_bytes(b"")
    assert found(verify(folder, OLD.verify_key)) == [("unlisted_file", "tile/more")]
