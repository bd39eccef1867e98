"""Which lease a node follows where the log it has read says little, or cannot be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from federated.errors import JournalCutError, LeaseError, RefusedError
from federated.lease import Lease
from federated.messages import Beside, FinishRequest, KeysRequest, body_digest
from federated.node.leases import Leases
from federated.node.work import Asked
from ledger.errors import EvidenceError, LogError
from ledger.history import Signer
from tests.drafts import key_of

JOB = "job:" + "1" * 64
OPERATOR = "participant:" + "2" * 64
RUN = 7
LEASE = Lease(JOB, 1, 3, RUN)
KEYS = KeysRequest(JOB, 1, 1, ("asset:1",), {})
END = FinishRequest(JOB, 1, 0, "failed")


@dataclass
class Log:
    """What a node has read: whose the operator's key is, if anybody's, and whether it ended."""

    signs: str | None = None
    revoked: bool = False
    size: int = 9
    read: list[str] = field(default_factory=list)

    @property
    def history(self) -> Any:
        return self

    @property
    def operator(self) -> str | None:
        return self.signs

    def signer(self, _author: object) -> Signer:
        if self.signs is None:
            raise EvidenceError("no operator")
        return Signer(key_of(self.signs).verify_key, (OPERATOR,))

    def revoked_before(self, name: str, size: int) -> bool:
        return self.revoked and (name, size) == (OPERATOR, 9)

    def shows(self, signs: str | None) -> Callable[[], None]:
        def read_on() -> None:
            self.read.append("on")
            self.signs = signs

        return read_on

    def fails(self, error: Exception) -> Callable[[], None]:
        def read_on() -> None:
            self.read.append("on")
            raise error

        return read_on


def asked(request: Any = KEYS, signed_by: str = "operator") -> Asked:
    beside = Beside(lease=LEASE.sign(key_of(signed_by)), run=RUN)
    return Asked(request, body_digest(request.to_bytes()), beside)


def word(log: Log, what: Asked, read_on: Callable[[], None]) -> str:
    with pytest.raises((LeaseError, RefusedError)) as refused:
        Leases(log).check(what, read_on)  # type: ignore[arg-type]
    return refused.value.reason


def test_a_node_that_knows_the_operator_does_not_read_on():
    log = Log("operator")
    Leases(log).check(asked(), log.shows("operator"))  # type: ignore[arg-type]
    assert log.read == []


@pytest.mark.parametrize("known", [None, "before"])
def test_it_reads_on_once_to_know_the_operator_or_its_new_key(known: str | None):
    log = Log(known)
    Leases(log).check(asked(), log.shows("operator"))  # type: ignore[arg-type]
    assert log.read == ["on"]


@pytest.mark.parametrize("known", [None, "before", "operator"])
def test_whom_the_log_does_not_know_then_is_not_followed(known: str | None):
    log = Log(known)
    assert word(log, asked(signed_by="stranger"), log.shows(known)) == "bad_lease"
    assert log.read == ["on"]


def test_for_what_is_no_lease_it_does_not_read_on():
    log = Log()
    nothing = Asked(KEYS, "sha256:", Beside(run=RUN))
    assert word(log, nothing, log.shows("operator")) == "bad_lease"
    log = Log("operator")
    no_lease = Asked(KEYS, "sha256:", Beside(lease=b"{}", run=RUN))
    assert word(log, no_lease, log.shows("operator")) == "bad_lease"
    assert log.read == []


def test_an_operator_that_was_revoked_drives_nothing():
    log = Log("operator", revoked=True)
    assert word(log, asked(), log.shows("operator")) == "bad_lease"


@pytest.mark.parametrize(
    ("request_", "known", "reason"),
    [
        (KEYS, None, "log_split"),
        # Not on the word of somebody whom the log that it did believe does not know.
        (KEYS, "before", "bad_lease"),
        (END, None, "bad_lease"),
    ],
)
def test_a_log_that_is_not_believed(request_: Any, known: str | None, reason: str):
    log = Log(known)
    split = RefusedError("log_split", "two histories")
    assert word(log, asked(request_), log.fails(split)) == reason


@pytest.mark.parametrize("error", [LogError("away"), JournalCutError(9, 7, "epoch:1")])
@pytest.mark.parametrize("request_", [KEYS, END])
def test_where_the_log_cannot_be_read_nobody_new_is_followed(request_: Any, error: Exception):
    log = Log()
    assert word(log, asked(request_), log.fails(error)) == "bad_lease"


def test_what_was_read_before_it_failed_may_do():
    """A log whose witnesses are late was read: the guard says what that means."""
    log = Log()

    def late() -> None:
        log.signs = "operator"
        raise RefusedError("log_stale", "an hour ago")

    Leases(log).check(asked(), late)  # type: ignore[arg-type]
