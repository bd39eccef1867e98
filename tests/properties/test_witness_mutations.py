"""Whatever reaches a witness, it cosigns the honest head or nothing, and says why by a status."""

import random
from pathlib import Path

from ledger.checkpoint import Checkpoint, parse, sign
from ledger.cosignature import cosign
from ledger.errors import WitnessError
from ledger.keys import CosigningKey, SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.note import split_unverified
from ledger.witness import Request, Witness

LOG = SigningKey.from_seed("log.example", bytes(32))
KEY = CosigningKey.from_seed("witness.example", bytes(32))
TREE = Tree.from_leaf_hashes(leaf_hash(b"%d" % at) for at in range(200))
STATUSES = {400, 403, 404, 409, 422}
MUTATIONS = 4000


def request(old: int, size: int) -> bytes:
    head = sign(Checkpoint(LOG.name, size, TREE.root(size)), LOG)
    lines = cosign(head, CosigningKey.from_seed("stranger", bytes(32)), 7)
    return Request(old, TREE.consistency(old, size), head + lines).to_bytes()


def mutated(data: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(data))
    kind = source.randrange(6)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << source.randrange(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[at + source.randrange(1, 40) :]
    if kind == 2:
        return data[:at] + source.randbytes(source.randrange(1, 8)) + data[at:]
    if kind == 3:
        return data[:at]
    lines = data.split(b"\n")
    one, other = source.randrange(len(lines)), source.randrange(len(lines))
    if kind == 4:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one] = lines[other]
    return b"\n".join(lines)


def answer(witness: Witness, body: bytes) -> tuple[int, bytes]:
    try:
        return 200, witness.add_checkpoint(body)
    except WitnessError as error:
        return error.status, b""


def test_no_mutation_moves_a_witness_to_another_head(tmp_path: Path):
    source = random.Random(20261)
    Witness.create(tmp_path, [KEY])
    witness = Witness(tmp_path, lambda: 1_767_225_600)
    witness.trust(LOG.verify_key)
    witness.add_checkpoint(
        Request(0, (), sign(Checkpoint(LOG.name, 77, TREE.root(77)), LOG)).to_bytes()
    )
    (state,) = (tmp_path / "state").glob("*.state")
    before, honest = state.read_bytes(), request(77, 190)
    text = split_unverified(Request.from_bytes(honest).signed)[0]
    cosigned = refused = 0
    for _ in range(MUTATIONS):
        body = mutated(honest, source)
        if source.random() < 0.3:
            body = mutated(body or b"x", source)
        status, lines = answer(witness, body)
        if status != 200:
            refused += 1
            assert status in STATUSES
            assert state.read_bytes() == before
            continue
        cosigned += 1
        seen = split_unverified(Request.from_bytes(body).signed)[0]
        assert seen == text
        assert parse(seen).root == TREE.root(190)
        assert lines.startswith("— witness.example ".encode())
        state.write_bytes(before)
    # Some changes touch nothing but the stranger's signature.
    assert cosigned > 50
    assert refused > MUTATIONS // 2
