"""The witness's rule book: each rule with its status, and what is remembered afterwards."""

import errno
import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import durable, note
from ledger.checkpoint import Checkpoint, sign
from ledger.cosignature import attach, cosign, verify_cosignature
from ledger.errors import InvalidKeyError, WitnessError
from ledger.fork import open_fork
from ledger.keys import (
    COSIGNATURE_ED25519,
    COSIGNATURE_MLDSA,
    CosignatureKey,
    CosigningKey,
    SigningKey,
)
from ledger.merkle import Tree, leaf_hash
from ledger.note import split_unverified
from ledger.witness import MAX_REQUEST, Request, Seen, Witness, read_log_key

VECTORS = Path(__file__).parents[1] / "vectors/ledger"
LOG = SigningKey.from_seed("log.example", hashlib.sha256(b"test log").digest())
OTHER = SigningKey.from_seed("other.example", hashlib.sha256(b"another test log").digest())
NAME = "witness.example/north"
START = 1_767_225_600


def tree_of(size: int, salt: bytes = b"") -> Tree:
    return Tree.from_leaf_hashes(leaf_hash(b"%d" % at + salt) for at in range(size))


TREE = tree_of(40)
# The same first 20 leaves, and others after them.
FORK = Tree.from_leaf_hashes(
    leaf_hash(b"%d" % at + (b"'" if at >= 20 else b"")) for at in range(40)
)


def signed(size: int, tree: Tree = TREE, key: SigningKey = LOG) -> bytes:
    return sign(Checkpoint(key.name, size, tree.root(size)), key)


def request(old: int, size: int, tree: Tree = TREE, key: SigningKey = LOG) -> bytes:
    proof = tree.consistency(old, size) if 0 < old < size else ()
    return Request(old, proof, signed(size, tree, key)).to_bytes()


class Watch:
    """Unix seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def seed(kind: bytes) -> bytes:
    return hashlib.sha256(b"test cosigner" + kind).digest()


KEY = CosigningKey.from_seed(NAME, seed(COSIGNATURE_ED25519))
PQ_KEY = CosigningKey.from_seed(NAME, seed(COSIGNATURE_MLDSA), COSIGNATURE_MLDSA)


@pytest.fixture(name="clock")
def _clock() -> Watch:
    return Watch()


@pytest.fixture(name="witness")
def _witness(tmp_path: Path, clock: Watch) -> Witness:
    Witness.create(tmp_path / "witness", [KEY])
    witness = Witness(tmp_path / "witness", clock)
    witness.trust(LOG.verify_key)
    return witness


def refused(witness: Witness, body: bytes) -> WitnessError:
    """Check that a refusal leaves the state as it was; return it."""
    before = witness.seen(LOG.name)
    with pytest.raises(WitnessError) as caught:
        witness.add_checkpoint(body)
    assert witness.seen(LOG.name) == before
    return caught.value


def times(body: bytes, lines: bytes, *keys: CosignatureKey) -> list[int]:
    """Verify the answer to a request with each key."""
    text, found = split_unverified(attach(Request.from_bytes(body).signed, [lines]))
    return [verify_cosignature(text, line, key) for line, key in zip(found[1:], keys, strict=True)]


def test_growing_heads_are_cosigned_one_after_the_other(witness: Witness, clock: Watch):
    for old, size in ((0, 1), (1, 8), (8, 8), (8, 13), (13, 40), (40, 40)):
        clock.now += 60
        body = request(old, size)
        assert times(body, witness.add_checkpoint(body), KEY.verify_key) == [clock.now]
        assert witness.seen(LOG.name).size == size


def test_the_empty_tree_is_cosigned_too(witness: Witness):
    for _ in range(2):
        assert witness.add_checkpoint(request(0, 0))
    assert witness.add_checkpoint(request(0, 5))
    assert refused(witness, request(0, 0)).status == 409


def test_the_longest_allowed_proof_is_written_and_read():
    body = Request(1, (bytes(32),) * 63, signed(40)).to_bytes()
    assert Request.from_bytes(body).proof == (bytes(32),) * 63
    with pytest.raises(WitnessError, match="64 lines"):
        Request.from_bytes(Request(1, (bytes(32),) * 64, signed(40)).to_bytes())


GOOD = request(8, 13)
MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no blank line": GOOD.replace(b"\n\n", b"\n"),
    "no old": GOOD[len(b"old 8\n") :],
    "old without size": GOOD.replace(b"old 8", b"old "),
    "old with a sign": GOOD.replace(b"old 8", b"old +8"),
    "old with a zero": GOOD.replace(b"old 8", b"old 08"),
    "old with other digits": GOOD.replace(b"old 8", "old ٨".encode()),
    "old with two spaces": GOOD.replace(b"old 8", b"old  8"),
    "old beyond 63 bits": GOOD.replace(b"old 8", b"old 9223372036854775808"),
    "carriage returns": GOOD.replace(b"\n", b"\r\n"),
    "a hash too short": GOOD.replace(b"old 8\n", b"old 8\nAAAA\n"),
    "a hash that is none": GOOD.replace(b"old 8\n", b"old 8\n\xff\n"),
    "no checkpoint": GOOD[: GOOD.index(b"\n\n") + 2],
    "an unsigned checkpoint": GOOD[: GOOD.rindex(b"\n\n") + 2],
    "a checkpoint that is none": GOOD.replace(b"\n13\n", b"\n13.0\n"),
    "too long": GOOD + b"x" * MAX_REQUEST,
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_malformed_is_a_bad_request(witness: Witness, what: str):
    assert refused(witness, MALFORMED[what]).status == 400


def test_an_unknown_log_is_not_found(witness: Witness):
    assert refused(witness, request(0, 3, key=OTHER)).status == 404


def forged() -> bytes:
    return request(0, 3, key=SigningKey.generate(LOG.name))


def test_a_checkpoint_that_the_log_did_not_sign_is_forbidden(witness: Witness):
    assert refused(witness, forged()).status == 403
    damaged = request(0, 3).replace(b"\n3\n", b"\n4\n")
    assert refused(witness, damaged).status == 403
    # Another log that this witness knows may not speak for this one.
    witness.trust(OTHER.verify_key)
    head = Checkpoint(LOG.name, 3, TREE.root(3))
    foreign = Request(0, (), note.sign(head.text(), [OTHER])).to_bytes()
    assert refused(witness, foreign).status == 403


def test_signatures_by_unknown_keys_are_ignored(witness: Witness):
    line = cosign(signed(3), PQ_KEY, 7)
    for whole in (signed(3) + line, signed(3, key=SigningKey.generate(LOG.name))):
        lines = whole[whole.index(b"\n\n") + 2 :]
        body = request(witness.seen(LOG.name).size, 3) + lines
        assert witness.add_checkpoint(body)


def test_an_old_size_beyond_the_new_one_is_a_bad_request(witness: Witness):
    witness.add_checkpoint(request(0, 8))
    assert refused(witness, Request(8, (), signed(7)).to_bytes()).status == 400


@pytest.mark.parametrize("old", [0, 7, 9])
def test_a_stale_old_size_is_a_conflict_that_names_the_right_one(witness: Witness, old: int):
    witness.add_checkpoint(request(0, 8))
    refusal = refused(witness, request(old, 13))
    assert (refusal.status, refusal.size) == (409, 8)
    assert witness.add_checkpoint(request(refusal.size or 0, 13))


def test_a_log_never_seen_starts_from_nothing(witness: Witness):
    refusal = refused(witness, request(3, 8))
    assert (refusal.status, refusal.size) == (409, 0)


def test_another_root_of_the_same_size_is_a_conflict_and_kept(witness: Witness, tmp_path: Path):
    witness.add_checkpoint(request(0, 30))
    for _ in range(2):
        for old in (30, 0, 12):
            assert refused(witness, request(old, 30, FORK)).status == 409
    (kept,) = (tmp_path / "witness/forks").iterdir()
    forked = open_fork(kept.read_bytes(), LOG.verify_key)
    assert {head.root for head in forked.heads} == {TREE.root(30), FORK.root(30)}


def test_forks_do_not_fill_the_disk(witness: Witness, tmp_path: Path):
    witness.add_checkpoint(request(0, 30))
    for at in range(60):
        refused(witness, request(30, 30, tree_of(30, b"%d" % at)))
    assert len(list((tmp_path / "witness/forks").iterdir())) <= 20


BAD_PROOFS: dict[str, Callable[[Request], Request]] = {
    "another history": lambda _: Request.from_bytes(request(7, 13, tree_of(13, b"'"))),
    "too short": lambda good: replace(good, proof=good.proof[:-1]),
    "too long": lambda good: replace(good, proof=(*good.proof, bytes(32))),
    "none": lambda good: replace(good, proof=()),
    "changed": lambda good: replace(good, proof=(bytes(32), *good.proof[1:])),
    "in another order": lambda good: replace(good, proof=good.proof[::-1]),
    "one of zeros": lambda good: replace(good, proof=(bytes(32),) * 63),
}


@pytest.mark.parametrize("what", BAD_PROOFS)
def test_an_inconsistent_proof_is_unprocessable(witness: Witness, what: str):
    witness.add_checkpoint(request(0, 7))
    good = Request.from_bytes(request(7, 13))
    assert refused(witness, BAD_PROOFS[what](good).to_bytes()).status == 422
    assert witness.add_checkpoint(good.to_bytes())


def test_a_proof_where_none_is_due_is_unprocessable(witness: Witness):
    assert refused(witness, Request(0, (bytes(32),), signed(8)).to_bytes()).status == 422
    witness.add_checkpoint(request(0, 8))
    assert refused(witness, Request(8, (bytes(32),), signed(8)).to_bytes()).status == 422


def test_a_fork_beyond_what_was_seen_is_never_cosigned(witness: Witness):
    witness.add_checkpoint(request(0, 30))
    for size in range(31, 41):
        assert refused(witness, request(30, size, FORK)).status == 422
        assert refused(witness, request(20, size, FORK)).status == 409
    # The twin: before they part, both are one log.
    assert witness.add_checkpoint(request(30, 31))


def test_a_clock_that_goes_back_never_dates_a_larger_tree_earlier(witness: Witness, clock: Watch):
    witness.add_checkpoint(request(0, 8))
    clock.now -= 3600
    body = request(8, 13)
    assert times(body, witness.add_checkpoint(body), KEY.verify_key) == [START]


def test_a_witness_with_two_keys_cosigns_with_both(tmp_path: Path, clock: Watch):
    Witness.create(tmp_path, [PQ_KEY, KEY])
    witness = Witness(tmp_path, clock)
    assert witness.keys == (KEY.verify_key, PQ_KEY.verify_key)
    witness.trust(LOG.verify_key)
    body = request(0, 8)
    lines = witness.add_checkpoint(body)
    assert times(body, lines, KEY.verify_key, PQ_KEY.verify_key) == [START, START]


def test_a_log_with_an_mldsa_key_alone_is_witnessed(tmp_path: Path, clock: Watch):
    vectors = VECTORS / "tlog-cosignature"
    key = read_log_key((vectors / "mldsa-log.vkey").read_text().strip())
    body = b"old 0\n\n" + (vectors / "mldsa-log.checkpoint").read_bytes()
    Witness.create(tmp_path, [KEY])
    witness = Witness(tmp_path, clock)
    with pytest.raises(WitnessError) as caught:
        witness.add_checkpoint(body)
    assert caught.value.status == 404
    witness.trust(key)
    assert times(body, witness.add_checkpoint(body), KEY.verify_key) == [START]
    with pytest.raises(WitnessError) as caught:
        witness.add_checkpoint(body.replace(b"\n1\n", b"\n2\n"))
    assert caught.value.status == 403


def test_a_real_log_is_witnessed_size_by_size(tmp_path: Path, clock: Watch):
    folder = VECTORS / "tlog-tiles-tessera"
    hashes = (folder / "tile/0/000.p/8").read_bytes()
    tree = Tree.from_leaf_hashes(hashes[at : at + 32] for at in range(0, len(hashes), 32))
    Witness.create(tmp_path, [KEY])
    witness = Witness(tmp_path, clock)
    witness.trust(read_log_key((folder / "log.vkey.txt").read_text().strip()))
    for old, size in ((0, 0), (0, 1), (1, 2), (2, 5), (5, 8), (8, 8)):
        proof = tree.consistency(old, size) if old else ()
        body = Request(old, proof, (folder / f"checkpoint.{size}").read_bytes()).to_bytes()
        assert times(body, witness.add_checkpoint(body)[:], KEY.verify_key) == [START]


# --- the folder


def test_a_restarted_witness_remembers(witness: Witness, tmp_path: Path, clock: Watch):
    witness.add_checkpoint(request(0, 8))
    again = Witness(tmp_path / "witness", clock)
    assert again.seen(LOG.name) == witness.seen(LOG.name)
    assert refused(again, request(0, 13)).size == 8


def test_a_folder_takes_one_witness(tmp_path: Path, clock: Watch):
    with pytest.raises(WitnessError, match="holds no witness"):
        Witness(tmp_path, clock)
    Witness.create(tmp_path, [KEY])
    with pytest.raises(InvalidKeyError, match="holds a witness already"):
        Witness.create(tmp_path, [PQ_KEY])


def test_a_log_is_trusted_once_and_may_have_more_keys(witness: Witness):
    witness.add_checkpoint(request(0, 8))
    later = SigningKey.generate(LOG.name)
    for _ in range(2):
        witness.trust(later.verify_key)
        witness.trust(LOG.verify_key)
    assert witness.log_keys(LOG.name) == (LOG.verify_key, later.verify_key)
    assert witness.origins() == [LOG.name]
    # What was seen under the old key binds the new one.
    assert refused(witness, request(8, 13, tree_of(13, b"'"), key=later)).status == 422
    assert witness.add_checkpoint(request(8, 13, key=later))


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "forged", "time"])
def test_a_lost_or_damaged_state_is_never_taken_for_a_new_log(
    witness: Witness, tmp_path: Path, damage: str
):
    witness.add_checkpoint(request(0, 8))
    (path,) = (tmp_path / "witness/state").glob("*.state")
    data = path.read_bytes()
    forgery = Seen(None, signed(3, key=SigningKey.generate(LOG.name)), START).to_bytes()
    changed = {
        "empty": b"",
        "cut": data[:-9],
        "forged": forgery,
        "time": data.replace(b"\n1767225600\n", b"\n-1\n"),
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    for body in (request(0, 8), request(8, 13), request(0, 3)):
        with pytest.raises(WitnessError, match="missing or damaged") as caught:
            witness.add_checkpoint(body)
        assert caught.value.status == 500


def test_damaged_log_keys_are_refused(witness: Witness, tmp_path: Path):
    (path,) = (tmp_path / "witness/logs").iterdir()
    path.write_text("nonsense\n")
    with pytest.raises(WitnessError) as caught:
        witness.add_checkpoint(request(0, 3))
    assert caught.value.status == 500


# --- races


def test_two_racing_histories_get_one_cosignature_each_size(tmp_path: Path, clock: Watch):
    Witness.create(tmp_path, [KEY])
    Witness(tmp_path, clock).trust(LOG.verify_key)
    cosigned: list[tuple[int, bytes]] = []
    start = threading.Barrier(8)

    def push(tree: Tree) -> None:
        witness = Witness(tmp_path, clock)
        start.wait()
        for size in range(21, 41):
            old = 0
            for _ in range(20):
                try:
                    witness.add_checkpoint(request(old, size, tree))
                except WitnessError as error:
                    if error.size is None or error.size > size or error.size == old:
                        break
                    old = error.size
                else:
                    cosigned.append((size, tree.root(size)))
                    break

    threads = [threading.Thread(target=push, args=(tree,)) for tree in (TREE, FORK) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cosigned
    # All that was cosigned is one history, whichever came first.
    roots = {root for _, root in cosigned}
    histories = [{tree.root(size) for size in range(41)} for tree in (TREE, FORK)]
    assert roots <= histories[0] or roots <= histories[1]


def test_the_race_bites_without_the_lock(tmp_path: Path, clock: Watch):
    # The twin: both read before either writes, as they could if nothing held them apart.
    Witness.create(tmp_path, [KEY])
    witness = Witness(tmp_path, clock)
    witness.trust(LOG.verify_key)
    stale = witness.seen(LOG.name)
    witness.add_checkpoint(request(0, 30))
    witness.seen = lambda _origin: stale  # type: ignore[method-assign]
    assert witness.add_checkpoint(request(0, 30, FORK))


# --- a disk that refuses


def test_a_folder_that_cannot_be_made_holds_no_witness(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidKeyError, match="cannot be made"):
        Witness.create(tmp_path / "file" / "witness", [KEY])
    Witness.create(tmp_path / "folder" / "witness", [KEY])


def test_without_its_lock_nothing_is_cosigned(witness: Witness, tmp_path: Path):
    state, aside = tmp_path / "witness/state", tmp_path / "aside"
    state.rename(aside)
    state.write_text("in the way")
    with pytest.raises(WitnessError) as caught:
        witness.add_checkpoint(request(0, 8))
    assert caught.value.status == 500
    state.unlink()
    aside.rename(state)
    assert times(request(0, 8), witness.add_checkpoint(request(0, 8)), KEY.verify_key) == [START]


def test_what_is_not_on_the_disk_is_not_cosigned(witness: Witness, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as disk:
        disk.setattr(durable, "replace", full)
        error = refused(witness, request(0, 8))
        assert (error.status, "No space left" in str(error)) == (500, True)
        with pytest.raises(WitnessError, match="No space left"):
            witness.trust(OTHER.verify_key)
    assert witness.origins() == [LOG.name]
    assert witness.add_checkpoint(request(0, 8))


@pytest.mark.parametrize(("length", "told"), [(255, ""), (256, "256 bytes")])
def test_a_name_too_long_to_be_cosigned(tmp_path: Path, clock: Watch, length: int, told: str):
    Witness.create(tmp_path / "witness", [PQ_KEY])
    witness = Witness(tmp_path / "witness", clock)
    log = SigningKey.from_seed("x" * length, hashlib.sha256(b"long").digest())
    witness.trust(log.verify_key)
    body = request(0, 8, key=log)
    if not told:
        assert times(body, witness.add_checkpoint(body), PQ_KEY.verify_key) == [START]
        return
    with pytest.raises(WitnessError, match=told) as caught:
        witness.add_checkpoint(body)
    assert caught.value.status == 500
