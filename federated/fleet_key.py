"""A node's second key, by which Flower's SuperLink knows it.

Flower's Fleet API wants a key on a NIST curve that signs the time of each request; a node's ledger
key is Ed25519. So a node has a P-384 key for this alone, and signs its public half with the ledger
key when it enrols (`federated.enrolment`). It proves who connects, and nothing about what is said.

    key = FleetKey.load(folder / "fleet.key")
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federated.errors import NodeError

_CURVE = ec.SECP384R1()


@dataclass(frozen=True)
class FleetKey:
    """A node's key towards the SuperLink.

    Attributes:
        public: PEM, as Flower writes it.
    """

    public: bytes
    _secret: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> FleetKey:
        """Return a fresh key."""
        return cls._of(ec.generate_private_key(_CURVE))

    @classmethod
    def load(cls, path: Path) -> FleetKey:
        """Read what `save` wrote.

        Raises:
            NodeError: there is none, or it is no key.
        """
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise NodeError(f"{path}: holds no key: {type(error).__name__}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != _CURVE.name:
            raise NodeError(f"{path}: a P-384 key is needed")
        return cls._of(key)

    def save(self, path: Path) -> None:
        """Write the key for its owner alone (0600)."""
        data = self._secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)

    @staticmethod
    def public_of(data: bytes) -> bytes:
        """Return a public key that came from outside, having looked that it is one.

        Raises:
            NodeError: it is none.
        """
        try:
            key = serialization.load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise NodeError("this is no public key") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVE.name:
            raise NodeError("this is no public P-384 key")
        if data != _text_of(key):
            raise NodeError("this public key is not written as Flower writes it")
        return data

    def sign(self, data: bytes) -> bytes:
        """Sign as Flower verifies it."""
        return self._secret.sign(data, ec.ECDSA(hashes.SHA256()))

    @classmethod
    def _of(cls, key: ec.EllipticCurvePrivateKey) -> FleetKey:
        return cls(_text_of(key.public_key()), key)


def _text_of(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
