"""What two nodes tell each other of their sidecars, and what is not believed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from federated.errors import SidecarError
from federated.sidecar.intersection import Sidecar
from federated.sidecar.meeting import SidecarEnd
from federated.sidecar.settings import SidecarSettings
from ledger.encoding import canonical, parse

SETTINGS = SidecarSettings(folder=Path("none"))


def end(monkeypatch: pytest.MonkeyPatch, version: str | None = "0.9.5") -> SidecarEnd:
    monkeypatch.setattr(Sidecar, "available", lambda _: version)
    return SidecarEnd(Sidecar(SETTINGS), lambda: datetime.now(UTC))


def test_two_of_one_version_meet_and_others_do_not(monkeypatch: pytest.MonkeyPatch):
    first, second = end(monkeypatch), end(monkeypatch)
    offers = first.offer(), second.offer()
    assert first.meets(offers[1])
    assert second.meets(offers[0])
    newer = end(monkeypatch, "0.9.6")
    assert not newer.meets(offers[0])
    assert not first.meets(newer.offer())


def test_without_a_sidecar_nothing_is_offered_and_nobody_met(monkeypatch: pytest.MonkeyPatch):
    first = end(monkeypatch)
    offer = first.offer()
    without = end(monkeypatch, None)
    assert without.offer() == b""
    assert not without.meets(offer)
    assert not first.meets(b"")


def test_an_offer_holds_no_private_key(monkeypatch: pytest.MonkeyPatch):
    made = end(monkeypatch)
    offer = made.offer()
    assert b"PRIVATE" not in offer
    assert b"BEGIN CERTIFICATE" in offer
    secret = b"".join(made._key.private.splitlines()[1:-1])
    assert secret not in offer.replace(b"\\n", b"")


@pytest.mark.parametrize(
    "offer",
    [
        b"{}",
        b"not json",
        b"[1]",
        canonical({"version": "1", "address": "x", "certificate": 7}),
        canonical({"version": "1", "address": "x", "certificate": "é"}),
        canonical({"version": "1", "address": "x", "certificate": "y", "more": "z"}),
    ],
)
def test_an_offer_that_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch, offer: bytes):
    own = end(monkeypatch)
    own.offer()
    with pytest.raises(SidecarError, match="cannot be read"):
        own.meets(offer)


@pytest.mark.parametrize(
    "change",
    [{"address": "192.0.2.1:7001"}, {"address": "127.0.0.1:80"}, {"certificate": "none"}],
)
def test_a_meeting_elsewhere_or_without_a_certificate_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
):
    own, theirs = end(monkeypatch), end(monkeypatch)
    own.offer()
    offer = canonical({**parse(theirs.offer()), **change})
    with pytest.raises(SidecarError):
        own.intersect(["a", "b"], 0, offer, bytes(32), "both")


def test_an_address_of_ones_own_is_one_of_the_named_hosts():
    settings = SidecarSettings(folder=Path("none"), address="127.0.0.1:7001")
    assert settings.address == "127.0.0.1:7001"
    with pytest.raises(SidecarError, match="ADDRESS"):
        SidecarSettings(folder=Path("none"), address="192.0.2.1:7001")
