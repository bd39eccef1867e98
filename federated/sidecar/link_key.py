"""The key with which one sidecar proves to another, for one intersection, that it is the right one.

A fresh self-signed certificate for each meeting. Both certificates travel between the nodes inside
their end-to-end encrypted and signed channel; each sidecar then takes the other's as its only
authority, so nobody else's is accepted, whoever signed it. Names in it mean nothing.

    own = LinkKey.make(now=datetime.now(UTC))
    own.certificate                  # PEM, for the other party
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from federated.errors import SidecarError

LIFE: Final = timedelta(hours=24)
# A clock that is a little behind must not refuse a certificate made a moment ago.
_BACKDATED: Final = timedelta(hours=1)
_MOST_BYTES: Final = 4096


@dataclass(frozen=True)
class LinkKey:
    """A certificate and its private key, each as PEM."""

    certificate: bytes
    private: bytes = field(repr=False)

    @classmethod
    def make(cls, *, now: datetime) -> LinkKey:
        """Make a fresh P-256 key and a certificate for it that lasts a day.

        Args:
            now: time of making, with its zone.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rongshu sidecar")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def read_certificate(pem: bytes) -> bytes:
    """Return the one certificate in a peer's PEM, encoded anew.

    Raises:
        SidecarError: it is none, holds several, or its key is not of the kind that is made here.
    """
    try:
        found = x509.load_pem_x509_certificates(pem[: _MOST_BYTES + 1])
    except ValueError as error:
        raise SidecarError("the other party's certificate cannot be read") from error
    if len(pem) > _MOST_BYTES or len(found) != 1:
        raise SidecarError("the other party's certificate must be one, and short")
    key = found[0].public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise SidecarError("the other party's certificate must hold a P-256 key")
    return found[0].public_bytes(serialization.Encoding.PEM)
