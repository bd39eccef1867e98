"""TLS certificates for an operator who has none: an authority of its own, and a server's.

Decides nothing about trust: whoever is handed `ca.pem` and uses it trusts this one authority, and
nobody else's certificates change. An operator with a certificate from a public authority does not
need this.

    made = make(["market.example.org", "127.0.0.1"], now=datetime.now(UTC))
    save(made, Path("data/tls"))     # ca.pem, server.pem and, 0600, ca.key and server.key

The authority's key signs one certificate and is needed again only to renew it: keep `ca.key` apart.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federated.errors import CertificateError
from ledger import durable

CA: Final = "ca.pem"
CA_KEY: Final = "ca.key"
SERVER: Final = "server.pem"
SERVER_KEY: Final = "server.key"

AUTHORITY_YEARS: Final = 10
SERVER_DAYS: Final = 397
"""Longest life that browsers accept of a server's certificate (CA/Browser Forum, ballot SC-031)."""

_LONGEST_HOST = 253
_YEAR = timedelta(days=365)
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
# A clock that is a little behind must not refuse a certificate made a moment ago.
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True)
class Certificates:
    """An authority and the one server certificate it signed, each as PEM."""

    ca: bytes
    server: bytes
    ca_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def make(hosts: Sequence[str], *, now: datetime, ca: Certificates | None = None) -> Certificates:
    """Make a server certificate, under a fresh authority or under one made before.

    Args:
        hosts: names and addresses under which the server is reached; at least one.
        now: time of making, with its zone.
        ca: an earlier set, whose authority signs again; its readers need no new `ca.pem`.

    Raises:
        CertificateError: no host, a name that no certificate can hold, or an authority that has
            ended.
    """
    if not hosts:
        raise CertificateError("name at least one host under which the server is reached")
    names = [_name(host) for host in hosts]
    if ca is None:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(authority_key, now)
    else:
        authority_key, authority = _read_authority(ca)
    ends = min(now + timedelta(days=SERVER_DAYS), authority.not_valid_after_utc)
    if ends <= now:
        raise CertificateError(
            f"the authority ended on {ends:%Y-%m-%d}: move it away, make another, and hand its "
            f"{CA} to every participant"
        )
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Rongshu operator")]))
        .issuer_name(authority.subject)
        .public_key(server_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    return Certificates(
        ca=_pem(authority),
        server=_pem(server),
        ca_key=_key_pem(authority_key),
        server_key=_key_pem(server_key),
    )


def save(made: Certificates, folder: Path) -> None:
    """Write the four files; the keys are readable by their owner alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, data in ((CA_KEY, made.ca_key), (SERVER_KEY, made.server_key)):
        # A file of another owner's making may be readable by others: made anew, not written over.
        (folder / name).unlink(missing_ok=True)
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    for name, data in ((CA, made.ca), (SERVER, made.server)):
        durable.replace(folder / name, data)


def ends(certificate: Path) -> datetime:
    """Return when a certificate ends, for a person to be told.

    Raises:
        CertificateError: the file holds none.
    """
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise CertificateError(f"{certificate}: no certificate: {error}") from error


def load(folder: Path) -> Certificates:
    """Read what `save` wrote.

    Raises:
        CertificateError: a file is missing; names it.
    """
    try:
        files = [(folder / name).read_bytes() for name in (CA, SERVER, CA_KEY, SERVER_KEY)]
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror}") from error
    return Certificates(*files)


def trusting(ca: Path | None) -> ssl.SSLContext:
    """Return a TLS client's context: the system's authorities, or one authority and no other.

    Raises:
        CertificateError: the file holds no certificate.
    """
    if ca is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"{ca}: no certificate of an authority: {error}") from error
    return context


def trusted_by(folder: Path) -> ssl.SSLContext:
    """Return the context of whoever lives in a folder: it trusts the `ca.pem` there, if any.

    Raises:
        CertificateError: that file holds no certificate.
    """
    path = folder / CA
    return trusting(path if path.exists() else None)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        raise CertificateError(f"{host[:80]!r} is neither a host's name nor an address")
    return x509.DNSName(host)


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Rongshu operator's authority")])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + AUTHORITY_YEARS * _YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _read_authority(made: Certificates) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key(made.ca_key, None)
        certificate = x509.load_pem_x509_certificate(made.ca)
    except ValueError as error:
        raise CertificateError(f"the authority cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is none that was made here")
    return key, certificate


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
