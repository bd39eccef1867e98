"""Every secret that a market makes, searched for in everything that it says, writes and logs.

Signing keys, keys of masks and channels, exponents, and the primes of Paillier keys: none is in a
message, an HTTP request or answer, a log line, the service's files and database, an export, or a
node's folder, except in the files that are there to hold one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federated.tasks import intersection
from ledger.encoding import b64encode
from ledger.export import export
from ledger.keys import SigningKey
from privacy import double_masking, masking, sealed_box
from privacy.paillier import SecretKey
from tests.integration.test_intersection_job import MATCH
from tests.joint import csv_text
from tests.searcher import Searcher, folder_bytes
from tests.stage import open_stage, terms

TABLES = {
    "north": csv_text([{"id": f"p{at}", "chol": 200 + at, "cents": at} for at in range(20)]),
    "south": csv_text([{"id": f"p{at}", "chol": 190 + at, "cents": at} for at in range(5, 30)]),
}
JOBS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("statistics", {"columns": ["chol"]}),
    ("encrypted_sum", {"columns": ["chol", "cents"]}),
    ("intersection", {"outcome": "sum", "value": "cents"}),
    ("intersection", {"outcome": "both"}),
)
AGREED = terms(tasks=("statistics", "encrypted_sum", "intersection"), uses=99)
HOLDERS = ("signing.key", "node.key", "encryption.key")
"""Files that hold one secret each, readable by their owner alone."""


class Secrets:
    """Notes each secret as it is made, by kind."""

    def __init__(self) -> None:
        self.by_kind: dict[str, set[bytes]] = {}

    def note(self, kind: str, secret: bytes) -> bytes:
        self.by_kind.setdefault(kind, set()).add(secret)
        return secret

    def drawn(self, kind: str, draw: Callable[[int], bytes]) -> Callable[[int], bytes]:
        """Wrap a module's source of randomness; shorter than a key are nonces, which are public."""
        return lambda length: self.note(kind, draw(length)) if length == 32 else draw(length)

    def searcher(self) -> Searcher:
        searcher = Searcher()
        for kind, secrets in self.by_kind.items():
            for secret in secrets:
                searcher._binary(secret, kind)
                searcher._binary(secret[::-1], f"{kind}, backwards")
                searcher._add(secret.hex().encode(), f"{kind}, hex")
                searcher._add(str(int.from_bytes(secret, "big")).encode(), f"{kind}, decimal")
        return searcher


@pytest.fixture(name="secrets")
def _secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    found = Secrets()
    for module, kind in (
        (sealed_box, "channel key"),
        (masking, "mask key"),
        (double_masking, "exponent"),
    ):
        monkeypatch.setattr(module, "random_bytes", found.drawn(kind, module.random_bytes))
    checked = SecretKey.__post_init__

    def checked_and_noted(key: SecretKey) -> None:
        checked(key)
        for prime in (key._p, key._q):
            found.note("Paillier prime", prime.to_bytes((prime.bit_length() + 7) // 8, "big"))

    monkeypatch.setattr(SecretKey, "__post_init__", checked_and_noted)
    return found


def everything(folder: Path, secrets: Secrets, caplog: pytest.LogCaptureFixture) -> list[bytes]:
    """Play the jobs; return all that anybody said, logged or wrote."""
    caplog.set_level(logging.DEBUG)
    with open_stage(folder, TABLES, preparation={"match": MATCH}, agreed=AGREED) as play:
        for task, parameters in JOBS:
            job = play.run(task, **parameters)
            play.researcher.result(job)
        log = play.market.app.state.context.log
        key = SigningKey.load(play.market.app.state.context.settings.log_key)
        export(log, key, folder / "export", opened=range(log.size), scope="all", now=play.clock())
        said = [data for _, _, data in play.crossed] + [data for _, data in play.spoken]
    for path in holders(folder):
        if path.name != "encryption.key":
            secrets.note("signing key", SigningKey.load(path)._private.private_bytes_raw())
    said += [record.getMessage().encode() for record in caplog.records]
    said += [str(record.exc_info).encode() for record in caplog.records if record.exc_info]
    return said + list(written(folder))


def holders(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.key") if path.name in HOLDERS]


def written(folder: Path) -> Iterator[bytes]:
    """Every file but those that hold a secret, whose contents are moved out of the way."""
    for path in holders(folder):
        assert path.stat().st_mode & 0o077 == 0
        path.unlink()
    yield from folder_bytes(folder)


def test_no_secret_key_is_in_anything_that_is_said_or_written(
    tmp_path: Path, secrets: Secrets, caplog: pytest.LogCaptureFixture
):
    said = everything(tmp_path, secrets, caplog)
    counts = {kind: len(found) for kind, found in secrets.by_kind.items()}
    assert counts.pop("signing key") >= 8
    # Of the two Paillier keys one is the researcher's, one the sender's of the sum; each of the two
    # intersections has two exponents.
    assert (counts["Paillier prime"], counts["exponent"]) == (4, 4)
    assert min(counts.values()) >= 4
    assert secrets.searcher().found(said) == set()
    # The twin: what a careless line would write is found, however it is written.
    for kind, found in secrets.by_kind.items():
        secret = next(iter(found))
        for careless in (
            secret,
            secret.hex().encode(),
            str(int.from_bytes(secret, "big")).encode(),
            b'{"key":"' + b64encode(b"x" + secret).encode() + b'"}',
        ):
            assert secrets.searcher().found([b"key " + careless + b"."]), kind


@pytest.mark.slow
def test_a_node_that_tells_its_exponent_is_caught(
    tmp_path: Path,
    secrets: Secrets,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    """The twin inside the product: what a report carries reaches the service's database."""
    told: list[str] = []
    offer = intersection.Sender.offer

    def noted(party: Any) -> bytes:
        told.append(party._exponent._secret.hex())
        return offer(party)

    monkeypatch.setattr(intersection.Sender, "offer", noted)
    part = intersection._part
    monkeypatch.setattr(
        intersection,
        "_part",
        lambda agreement, found, names, more=None: part(
            agreement, found, names, {**(more or {}), "debug": told[-1]}
        ),
    )
    monkeypatch.setattr(
        intersection.IntersectionTask,
        "conclude",
        lambda _self, _plan, reports: {"reports": [reports[each] for each in sorted(reports)]},
    )
    found = secrets.searcher
    said = everything(tmp_path, secrets, caplog)
    assert {about.partition(",")[0] for about in found().found(said)} == {"exponent"}
