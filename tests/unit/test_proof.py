"""One entry proven by one text file."""

import base64
from dataclasses import replace

import pytest

from ledger import checkpoint as checkpoints
from ledger import proof as proofs
from ledger.checkpoint import Checkpoint
from ledger.cosignature import attach, cosign
from ledger.encoding import b64encode, canonical
from ledger.entry import Opening
from ledger.errors import (
    EvidenceError,
    LedgerError,
    NoteError,
    ProofError,
    SignatureError,
    TrustError,
)
from ledger.keys import CosigningKey, SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.proof import MAX_BYTES, MAX_HASHES, Proof, make, verify
from ledger.statements import Receipt
from ledger.succession import Succession
from ledger.trust import Policy, Witness
from tests.drafts import key_of
from tests.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_one_use(tmp_path_factory.mktemp("world"), providers=2)


class Case:
    """Everything a proof is made of, for the first receipt of a world."""

    def __init__(self, world: World) -> None:
        self.entries = world.log.entry_bytes(0, world.log.size)
        self.openings = world.openings()
        self.tree = Tree.from_leaf_hashes(map(leaf_hash, self.entries))
        self.signed = world.log.checkpoint()
        self.policy = Policy.of(world.log.vkey)
        self.index = next(entry.index for entry in world.entries() if entry.kind == "receipt")
        self.entry = self.entries[self.index]
        self.opening = self.openings[self.index]

    def proof(self, opening: Opening | None = None) -> Proof:
        return make(self.tree, self.index, self.entry, self.signed, opening)


@pytest.fixture(scope="module")
def case(world: World) -> Case:
    return Case(world)


def test_every_entry_is_proven(case: Case):
    for index, entry in enumerate(case.entries):
        data = make(case.tree, index, entry, case.signed).to_bytes()
        proven = verify(data, case.policy)
        assert (proven.entry.to_bytes(), proven.statement) == (entry, None)
        assert proven.trusted.checkpoint.size == len(case.entries)


def test_a_disclosed_statement_is_proven_too(case: Case, world: World):
    proven = verify(case.proof(case.opening).to_bytes(), case.policy)
    assert proven.statement is not None
    assert isinstance(proven.statement.statement, Receipt)
    assert proven.statement.id == world.use.receipts[0]
    assert proven.statement.verify(world.node_key(world.providers[0]).verify_key)
    with pytest.raises(SignatureError):
        proven.statement.verify(world.operator.key.verify_key)


def test_a_statement_may_stand_beside_the_proof(case: Case):
    data = case.proof().to_bytes()
    assert verify(data, case.policy, opening=case.opening).statement
    with pytest.raises(ProofError, match="opening of entry"):
        verify(data, case.policy, opening=case.openings[0])


def test_the_text_is_read_and_written_back(case: Case):
    for proof in (case.proof(), case.proof(case.opening), replace(case.proof(), extra=None)):
        assert Proof.from_bytes(proof.to_bytes()) == proof


def test_a_proof_made_elsewhere_needs_the_entry_beside_it(case: Case):
    for extra in (None, b"opaque", canonical({"entry": 1}), canonical([1])):
        data = replace(case.proof(), extra=extra).to_bytes()
        assert verify(data, case.policy, entry=case.entry).entry.kind == "receipt"
        with pytest.raises(EvidenceError, match="does not carry the entry"):
            verify(data, case.policy)
        with pytest.raises(ProofError, match="does not lead to the root"):
            verify(data, case.policy, entry=case.entries[0])


def test_another_entry_beside_the_one_carried_is_refused(case: Case):
    assert verify(case.proof().to_bytes(), case.policy, entry=case.entry)
    with pytest.raises(ProofError, match="another entry than the one given"):
        verify(case.proof().to_bytes(), case.policy, entry=case.entries[0])


def test_what_the_extra_says_is_not_believed(case: Case):
    proof = case.proof(case.opening)
    assert verify(proof.to_bytes(), case.policy)
    other = make(case.tree, 0, case.entries[0], case.signed, case.openings[0])
    with pytest.raises(ProofError, match="does not lead to the root"):
        verify(replace(proof, extra=other.extra).to_bytes(), case.policy)
    lie = proof.extra.replace(b'"opening":{', b'"opening":{"more":1,')
    with pytest.raises((ProofError, EvidenceError)):
        verify(replace(proof, extra=lie).to_bytes(), case.policy)
    wrong = Opening(case.index, b"s" * 32, case.opening.envelope)
    with pytest.raises(ProofError, match="does not match the commitment"):
        verify(case.proof().to_bytes(), case.policy, opening=wrong)


def test_an_entry_of_another_index_is_refused(case: Case):
    # A dishonest log may put an entry where its index says it is not.
    key = key_of("log.example/dishonest")
    moved = [case.entries[1], case.entries[0]]
    tree = Tree.from_leaf_hashes(map(leaf_hash, moved))
    signed = checkpoints.sign(Checkpoint(key.name, 2, tree.root()), key)
    proof = Proof(0, tree.inclusion(0, 2), signed)
    assert proof.verify(moved[0], Policy.of(key.verify_key))
    with pytest.raises(ProofError, match="of entry 0, this one is 1"):
        verify(proof.to_bytes(), Policy.of(key.verify_key), entry=moved[0])
    with pytest.raises(ProofError, match="of entry 0, this one is 1"):
        make(tree, 0, moved[0], signed)


def test_only_a_trusted_log_proves(case: Case):
    stranger = SigningKey.from_seed(case.policy.logs[0].name, b"x" * 32)
    assert verify(case.proof().to_bytes(), case.policy)
    with pytest.raises(TrustError):
        verify(case.proof().to_bytes(), Policy.of(stranger.verify_key))


def test_a_quorum_is_asked_for(case: Case):
    witness = CosigningKey.from_seed("witness.example", b"w" * 32)
    policy = Policy(case.policy.logs, (Witness("w", witness.verify_key),), quorum="w")
    with pytest.raises(TrustError, match="by 0 of the 1"):
        verify(case.proof().to_bytes(), policy)
    signed = attach(case.signed, [cosign(case.signed, witness, 1_767_225_700)])
    proven = verify(make(case.tree, case.index, case.entry, signed).to_bytes(), policy)
    assert proven.trusted.witnessed_at == 1_767_225_700


def test_a_proof_from_before_a_change_of_keys_stays_valid(case: Case, world: World):
    new = SigningKey.from_seed(world.log_key.name, b"n" * 32)
    size = len(case.entries)
    head = Checkpoint(new.name, size, case.tree.root())
    change = Succession(head, world.log.vkey, new.verify_key).sign(new, world.log_key)
    data = case.proof().to_bytes()
    assert verify(data, case.policy, successions=[change])
    after = make(case.tree, case.index, case.entry, checkpoints.sign(head, new)).to_bytes()
    assert verify(after, case.policy, successions=[change]).trusted.key == new.verify_key
    with pytest.raises(TrustError):
        verify(after, case.policy)


def test_no_byte_of_a_proof_can_change(case: Case):
    data = case.proof(case.opening).to_bytes()
    whole = verify(data, case.policy)
    ignored = 0
    for place in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[place] ^= 1
        try:
            verify(bytes(damaged), case.policy)
        except LedgerError:
            continue
        ignored += 1
    assert whole
    assert ignored == 0


HASH = b64encode(bytes(32))


def text_of(case: Case, *lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + case.signed


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("c2sp.org/tlog-proof@v2", "index 1"), "line 1"),
        (("c2sp.org/tlog-proof@v1",), "line 2.*index NUMBER"),
        (("c2sp.org/tlog-proof@v1", "extra"), "line 2"),
        (("c2sp.org/tlog-proof@v1", "extra ", "index 1"), "empty"),
        (("c2sp.org/tlog-proof@v1", "extra YQ", "index 1"), "line 2.*base64"),
        (("c2sp.org/tlog-proof@v1", "extra YR==", "index 1"), "line 2.*base64"),
        (("c2sp.org/tlog-proof@v1", "index 1", "extra YQ=="), "line 3.*base64"),
        (("c2sp.org/tlog-proof@v1", "extra YQ==", "extra YQ==", "index 1"), "line 3"),
        (("c2sp.org/tlog-proof@v1", "extra YQ=="), "line 3.*index"),
        (("c2sp.org/tlog-proof@v1", "index 01"), "line 2.*decimal"),
        (("c2sp.org/tlog-proof@v1", "index -1"), "line 2.*decimal"),
        (("c2sp.org/tlog-proof@v1", "index 9999999999999999999"), "not between 0"),
        (("c2sp.org/tlog-proof@v1", "index  1"), "line 2.*decimal"),
        (("c2sp.org/tlog-proof@v1", "index 1", "YQ=="), "not 32 bytes"),
        (("c2sp.org/tlog-proof@v1", "index 1", HASH + " "), "line 3.*base64"),
        (("c2sp.org/tlog-proof@v1", "index 1", *[HASH] * (MAX_HASHES + 1)), "more than 63"),
        (("c2sp.org/tlog-proof@v1", "index 1 蓉"), "not ASCII"),
        (("c2sp.org/tlog-proof@v1", "index 1\r"), "decimal"),
    ],
)
def test_another_text_is_no_proof(case: Case, lines: tuple[str, ...], message: str):
    assert Proof.from_bytes(text_of(case, "c2sp.org/tlog-proof@v1", "index 1", HASH))
    with pytest.raises(ProofError, match=message):
        Proof.from_bytes(text_of(case, *lines))


def test_a_proof_needs_a_checkpoint(case: Case):
    head = b"c2sp.org/tlog-proof@v1\nindex 1\n"
    assert Proof.from_bytes(head + b"\n" + case.signed)
    for tail in (b"", b"\n", b"\nhello\n", b"\n\n" + case.signed, b"\n" + case.signed + b"\n"):
        with pytest.raises(ProofError):
            Proof.from_bytes(head + tail)


def test_lengths_are_bounded(case: Case):
    with pytest.raises(ProofError, match="longer than"):
        Proof.from_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(ProofError, match="longer than"):
        replace(case.proof(), extra=bytes(MAX_BYTES)).to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"index": -1},
        {"hashes": (b"short",)},
        {"hashes": (bytes(32),) * 64},
        {"extra": b""},
        {"checkpoint": b"x"},
    ],
)
def test_what_cannot_be_written_cannot_be_made(case: Case, change: dict[str, object]):
    with pytest.raises(ProofError):
        replace(case.proof(), **change)


def test_only_what_the_checkpoint_covers_is_proven(case: Case):
    size = len(case.entries)
    for index in (-1, size):
        with pytest.raises(ProofError, match=f"covers entries 0 to {size - 1}"):
            make(case.tree, index, case.entry, case.signed)
    with pytest.raises(ProofError):
        make(case.tree, 0, case.entry, case.signed)
    with pytest.raises(NoteError):
        make(case.tree, 0, case.entry, b"no note")
    with pytest.raises(ProofError, match="malformed"):
        make(Tree.from_leaf_hashes([leaf_hash(b"{")]), 0, b"{", _alone(b"{"))
    with pytest.raises(ProofError, match="does not match"):
        case.proof(Opening(case.index, b"s" * 32, case.opening.envelope))


def _alone(entry: bytes) -> bytes:
    key = key_of("log.example/one")
    return checkpoints.sign(Checkpoint(key.name, 1, leaf_hash(entry)), key)


def test_a_published_example_of_the_format_has_these_parts(case: Case):
    # The example of C2SP tlog-proof elides its signatures: its head is read, line for line.
    lines = (
        "index 73894",
        "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=",
        "B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=",
        "EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=",
        "RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=",
        "AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=",
    )
    proof = Proof.from_bytes(text_of(case, proofs.HEADING, *lines))
    assert proof.index == 73894
    assert proof.hashes[0] == base64.b64decode(lines[1])
    with pytest.raises(ProofError):
        verify(proof.to_bytes(), case.policy, entry=case.entry)
