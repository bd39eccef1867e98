"""A verifier that nobody here wrote agrees: sigstore-python checks what this project exports.

It knows the signed notes, checkpoints and RFC 6962 trees of C2SP from Rekor, and nothing of ours:
files are read here with the standard library alone, then its functions for the checkpoint's
signature and for inclusion decide. Each agreement has a twin that it refuses.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint, verify_checkpoint
from sigstore._internal.trust import Keyring
from sigstore.errors import VerificationError
from sigstore_models.common import v1 as common_v1

from ledger import checkpoint as checkpoints
from ledger import proof as proofs
from ledger.checkpoint import Checkpoint
from ledger.cosignature import attach, cosign
from ledger.keys import COSIGNATURE_MLDSA, CosigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.tile_tree import TileTree
from ledger.tiles import layout, tile_bytes
from tests.drafts import key_of
from tests.forgery import write_files
from tests.world import World

GOLDEN = Path(__file__).resolve().parents[1] / "vectors" / "ledger" / "export-v1"
LARGE = 66_000  # tiles of three levels


def keyring(vkey: str) -> Keyring:
    """The keyring of one key, written as `name+id+base64`."""
    raw = base64.b64decode(vkey.strip().split("+", 2)[2])
    assert raw[0] == 1
    public = Ed25519PublicKey.from_public_bytes(raw[1:])
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Keyring(
        [
            common_v1.PublicKey(
                raw_bytes=base64.b64encode(der),
                key_details=common_v1.PublicKeyDetails.PKIX_ED25519,
            )
        ]
    )


def key_id(vkey: str) -> bytes:
    return bytes.fromhex(vkey.split("+", 2)[1])


def logged(
    entry: bytes, index: int, hashes: list[bytes], checkpoint: str, vkey: str
) -> SimpleNamespace:
    """An entry in the shape that sigstore's functions take it in."""
    signed = SignedCheckpoint.from_text(checkpoint)
    inclusion = SimpleNamespace(
        log_index=index,
        tree_size=signed.checkpoint.log_size,
        hashes=hashes,
        root_hash=bytes.fromhex(signed.checkpoint.log_hash),
        checkpoint=SimpleNamespace(envelope=checkpoint),
    )
    log_id = SimpleNamespace(key_id=key_id(vkey))
    inner = SimpleNamespace(inclusion_proof=inclusion, canonicalized_body=entry, log_id=log_id)
    return SimpleNamespace(_inner=inner)


def agree(entry: SimpleNamespace, keys: Keyring) -> None:
    """Both of sigstore's checks, in its own order."""
    verify_merkle_inclusion(entry)
    verify_checkpoint(keys, entry)


def entries_of(folder: Path) -> list[bytes]:
    """The entries of an exported folder, read without this project's code."""
    found = []
    for path in sorted((folder / "tile" / "entries").rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        while data:
            stop = 2 + int.from_bytes(data[:2], "big")
            found.append(data[2:stop])
            data = data[stop:]
    return found


def tree_of(folder: Path, size: int) -> TileTree:
    return TileTree(size, lambda tile: (folder / tile.path).read_bytes())


def golden(_folder: Path) -> Path:
    return GOLDEN / "everything"


def fresh(folder: Path) -> Path:
    return World.with_one_use(folder / "world", providers=2).export(folder / "export")


def large(folder: Path) -> Path:
    raw = [b'{"index":%d}' % number for number in range(LARGE)]
    tree = Tree.from_leaf_hashes(map(leaf_hash, raw))
    key = key_of("large.example/log")
    head = Checkpoint(key.name, tree.size, tree.root())
    contents = {
        tile.path: tile_bytes(tree, tile, lambda start, stop: raw[start:stop])
        for tile in layout(LARGE)
    }
    contents |= {
        "checkpoint": checkpoints.sign(head, key),
        "log.vkey": key.verify_key.text.encode() + b"\n",
    }
    write_files(folder / "large", contents)
    return folder / "large"


@pytest.fixture(scope="module", params=[golden, fresh, large])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make: Callable[[Path], Path] = request.param
    return make(tmp_path_factory.mktemp("sigstore"))


def test_every_entry_of_an_export_is_included(folder: Path):
    checkpoint, vkey = (folder / "checkpoint").read_text(), (folder / "log.vkey").read_text()
    entries = entries_of(folder)
    tree, keys = tree_of(folder, len(entries)), keyring(vkey)
    step = max(1, len(entries) // 700)
    for index in [*range(0, len(entries), step), len(entries) - 1]:
        hashes = list(tree.inclusion(index, len(entries)))
        agree(logged(entries[index], index, hashes, checkpoint, vkey), keys)


def test_what_is_changed_is_refused(folder: Path):
    checkpoint, vkey = (folder / "checkpoint").read_text(), (folder / "log.vkey").read_text()
    entries = entries_of(folder)
    size, index = len(entries), len(entries) // 3
    hashes = list(tree_of(folder, size).inclusion(index, size))
    keys, entry = keyring(vkey), entries[index]
    agree(logged(entry, index, hashes, checkpoint, vkey), keys)
    twins = [
        (entry + b" ", index, hashes),
        (entry, index + 1, hashes),
        (entry, index, hashes[:-1]),
        (entry, index, [*hashes, bytes(32)]),
        *(
            (entry, index, [*hashes[:at], bytes(32), *hashes[at + 1 :]])
            for at in range(len(hashes))
        ),
    ]
    for twin in twins:
        with pytest.raises(VerificationError):
            agree(logged(*twin, checkpoint, vkey), keys)


def test_a_checkpoint_that_the_log_did_not_sign_is_refused(folder: Path):
    checkpoint, vkey = (folder / "checkpoint").read_text(), (folder / "log.vkey").read_text()
    entries = entries_of(folder)
    hashes = list(tree_of(folder, len(entries)).inclusion(0, len(entries)))
    origin, size, root, *_ = checkpoint.split("\n")
    other = base64.b64encode(bytes(32)).decode()
    for changed in (
        checkpoint.replace(f"\n{size}\n", f"\n{int(size) + 1}\n", 1),
        checkpoint.replace(root, other, 1),
        checkpoint.replace(origin, "else.example", 1),
        checkpoint[:-12] + "AAAAAAAAAAA\n",
    ):
        signed = SignedCheckpoint.from_text(changed)
        with pytest.raises(VerificationError):
            signed.signed_note.verify(keyring(vkey), key_id(vkey))
    stranger = key_of(origin + "/stranger").verify_key.text
    with pytest.raises(VerificationError):
        agree(logged(entries[0], 0, hashes, checkpoint, vkey), keyring(stranger))


def test_checkpoints_with_cosignatures_still_verify(folder: Path):
    signed, vkey = (folder / "checkpoint").read_bytes(), (folder / "log.vkey").read_text()
    cosigned = attach(
        signed,
        [
            cosign(signed, CosigningKey.from_seed("witness.example", b"w" * 32), 1_767_225_700),
            cosign(
                signed,
                CosigningKey.from_seed("lattice.example", b"m" * 32, COSIGNATURE_MLDSA),
                1_767_225_700,
            ),
        ],
    ).decode()
    entries = entries_of(folder)
    hashes = list(tree_of(folder, len(entries)).inclusion(0, len(entries)))
    agree(logged(entries[0], 0, hashes, cosigned, vkey), keyring(vkey))


def test_a_proof_file_verifies(folder: Path):
    signed, vkey = (folder / "checkpoint").read_bytes(), (folder / "log.vkey").read_text()
    entries = entries_of(folder)
    index = len(entries) // 2
    proof = proofs.Proof(
        index, tree_of(folder, len(entries)).inclusion(index, len(entries)), signed
    )
    head, _, checkpoint = proof.to_bytes().decode().partition("\n\n")
    heading, position, *hashes = head.split("\n")
    assert (heading, position) == ("c2sp.org/tlog-proof@v1", f"index {index}")
    decoded = [base64.b64decode(item) for item in hashes]
    agree(logged(entries[index], index, decoded, checkpoint, vkey), keyring(vkey))
    with pytest.raises(VerificationError):
        agree(logged(entries[index - 1], index, decoded, checkpoint, vkey), keyring(vkey))
