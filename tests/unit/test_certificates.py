"""Certificates: who is believed under which authority, checked by handshakes in memory."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federated import certificates
from federated.address import reach
from federated.certificates import CA, CA_KEY, SERVER, SERVER_KEY, Certificates
from federated.errors import CertificateError

NOW = datetime.now(UTC)
HOST = "market.example.org"


@pytest.fixture(scope="module")
def made() -> Certificates:
    return certificates.make([HOST, "127.0.0.1", "::1", "*.example.net"], now=NOW)


def shake_hands(made: Certificates, trusted: Certificates | None, host: str, folder: Path) -> str:
    """A client that trusts one authority (or the system's) meets a server; returns the version."""
    certificates.save(made, folder / "server")
    if trusted is not None:
        certificates.save(trusted, folder / "client")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(folder / "server" / SERVER, folder / "server" / SERVER_KEY)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    context = certificates.trusted_by(folder / "client")
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return str(client.version())


@pytest.mark.parametrize("host", [HOST, "127.0.0.1", "::1", "any.example.net"])
def test_a_server_is_believed_under_its_authority_and_name(
    made: Certificates, host: str, tmp_path: Path
):
    assert shake_hands(made, made, host, tmp_path) == "TLSv1.3"


@pytest.mark.parametrize("host", ["other.example.org", "127.0.0.2", "example.net"])
def test_under_another_name_it_is_refused(made: Certificates, host: str, tmp_path: Path):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        shake_hands(made, made, host, tmp_path)


def test_under_another_authority_it_is_refused(made: Certificates, tmp_path: Path):
    # Of the same name and with the same fields: the key alone differs.
    other = certificates.make([HOST], now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        shake_hands(made, other, HOST, tmp_path)


def test_the_systems_authorities_do_not_know_it(made: Certificates, tmp_path: Path):
    context = certificates.trusting(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(made, None, HOST, tmp_path)


def test_a_certificate_that_has_ended_is_refused(tmp_path: Path):
    ended = certificates.make([HOST], now=NOW - timedelta(days=certificates.SERVER_DAYS + 1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(ended, ended, HOST, tmp_path)


def test_renewal_keeps_the_authority_so_that_nobody_else_has_to_act(
    made: Certificates, tmp_path: Path
):
    renewed = certificates.make(["new.example.org"], now=NOW, ca=made)
    assert (renewed.ca, renewed.ca_key) == (made.ca, made.ca_key)
    assert renewed.server != made.server
    assert renewed.server_key != made.server_key
    # Whoever was handed the first `ca.pem` believes the new certificate.
    assert shake_hands(renewed, made, "new.example.org", tmp_path)


def test_no_certificate_outlives_its_authority(tmp_path: Path):
    old = certificates.make([HOST], now=NOW - timedelta(days=3600))
    certificates.save(certificates.make([HOST], now=NOW, ca=old), tmp_path)
    assert certificates.ends(tmp_path / SERVER) == certificates.ends(tmp_path / CA)
    older = certificates.make([HOST], now=NOW - timedelta(days=3651))
    with pytest.raises(CertificateError, match="the authority ended on"):
        certificates.make([HOST], now=NOW, ca=older)


@pytest.mark.parametrize(
    "host",
    ["", "https://a.example", "a.example:8448", "a b", "-a", "a..b", "a" * 64, "蓉数.example"],
)
def test_a_host_that_no_certificate_can_hold_is_refused(host: str):
    with pytest.raises(CertificateError, match="neither a host's name nor an address"):
        certificates.make([host], now=NOW)


def test_at_least_one_host_is_needed():
    with pytest.raises(CertificateError, match="at least one host"):
        certificates.make([], now=NOW)


def test_keys_are_their_owners_alone_whatever_stood_there_before(
    made: Certificates, tmp_path: Path
):
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / SERVER_KEY).write_text("readable by all")
    (folder / SERVER_KEY).chmod(0o644)
    certificates.save(made, folder)
    for name in (CA_KEY, SERVER_KEY):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert certificates.load(folder) == made
    assert "PRIVATE" not in repr(made)
    certificates.save(made, tmp_path / "fresh")
    assert (tmp_path / "fresh").stat().st_mode & 0o077 == 0


def test_what_cannot_be_read_is_named(made: Certificates, tmp_path: Path):
    certificates.save(made, tmp_path)
    (tmp_path / CA_KEY).unlink()
    with pytest.raises(CertificateError, match=r"ca\.key"):
        certificates.load(tmp_path)
    (tmp_path / CA).write_text("no certificate")
    for read in (certificates.trusting, certificates.ends):
        with pytest.raises(CertificateError, match=r"ca\.pem: no certificate"):
            read(tmp_path / CA)
    with pytest.raises(CertificateError, match=r"ca\.pem"):
        reach(tmp_path, "https://127.0.0.1")
    damaged = Certificates(b"nothing", b"", b"nothing", b"")
    with pytest.raises(CertificateError, match="the authority cannot be read"):
        certificates.make([HOST], now=NOW, ca=damaged)
