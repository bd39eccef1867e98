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

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federated.errors import NodeError


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
        return cls._of(ec.generate_private_key(ec.SECP384R1()))

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
        if not isinstance(key, ec.EllipticCurvePrivateKey):
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

    def sign(self, data: bytes) -> bytes:
        """Sign as Flower verifies it."""
        return self._secret.sign(data, ec.ECDSA(hashes.SHA256()))

    @classmethod
    def _of(cls, key: ec.EllipticCurvePrivateKey) -> FleetKey:
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(public, key)
