"""What the ledger's primitives cost beside the bare library calls under them."""

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bench.table import Row, rate
from ledger import encoding, merkle
from ledger.keys import SigningKey

ENTRY = b"x" * 200  # about the size of a log entry
MESSAGE = b"m" * 120  # about the size of a checkpoint
STATEMENT = {"kind": "grant", "issued": 1_700_000_000_000, "parties": ["a", "b", "c"]}


def rows() -> list[Row]:
    """Rates per second of hashing, signing, verifying and encoding."""
    key = SigningKey.generate("bench")
    signature = key.sign(MESSAGE)
    bare = Ed25519PublicKey.from_public_bytes(key.verify_key.public)
    leaves = [merkle.leaf_hash(bytes([i % 256])) for i in range(1000)]
    encoded = encoding.canonical(STATEMENT)
    return [
        Row(
            "leaf hash",
            rate(lambda: merkle.leaf_hash(ENTRY)),
            "1/s",
            rate(lambda: hashlib.sha256(ENTRY).digest()),
        ),
        Row(
            "root of 1000 leaves, leaves",
            rate(lambda: merkle.root(leaves), count=1000),
            "1/s",
            rate(lambda: [hashlib.sha256(leaf + leaf).digest() for leaf in leaves], count=1000),
        ),
        Row(
            "Ed25519 verify",
            rate(lambda: key.verify_key.verify(MESSAGE, signature)),
            "1/s",
            rate(lambda: bare.verify(signature, MESSAGE)),
        ),
        Row("Ed25519 sign", rate(lambda: key.sign(MESSAGE)), "1/s"),
        Row("canonical encoding", rate(lambda: encoding.canonical(STATEMENT)), "1/s"),
        Row("strict parsing", rate(lambda: encoding.parse(encoded)), "1/s"),
    ]
