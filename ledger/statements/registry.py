"""The kinds of statement, and how an unverified envelope becomes one of them.

A new kind is one file beside this one, one line here, one section in FORMATS.md and one vector.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ledger.errors import StatementError
from ledger.ids import statement_id
from ledger.keys import VerifyKey
from ledger.statements import envelope
from ledger.statements.agreement import Agreement, BudgetedAgreement
from ledger.statements.asset import Asset, TaggedAsset
from ledger.statements.epoch import Epoch
from ledger.statements.grant import Grant
from ledger.statements.job import Job
from ledger.statements.offer import Offer
from ledger.statements.participant import Participant
from ledger.statements.receipt import MeteredReceipt, Receipt
from ledger.statements.release import Release
from ledger.statements.revocation import Revocation
from ledger.statements.rotation import Rotation
from ledger.statements.schedule import Schedule
from ledger.statements.settlement import Settlement
from ledger.statements.shred import Shred
from ledger.statements.statement import Statement
from ledger.statements.use_index import UseIndex

KINDS: dict[str, type[Statement]] = {
    statement.kind: statement
    for statement in (
        Participant,
        TaggedAsset,
        Offer,
        Agreement,
        Job,
        Grant,
        Receipt,
        Release,
        Settlement,
        Revocation,
        Rotation,
        Schedule,
        Epoch,
        UseIndex,
        Shred,
    )
}
# Versions beside those: earlier ones stay readable, and some are for what others do not need.
_OTHERS: tuple[type[Statement], ...] = (Asset, BudgetedAgreement, MeteredReceipt)
BY_MEDIA_TYPE = {statement.media_type(): statement for statement in (*KINDS.values(), *_OTHERS)}


@dataclass(frozen=True)
class Unverified:
    """A well-formed statement whose signatures nobody has checked yet."""

    statement: Statement
    envelope: bytes

    @property
    def id(self) -> str:
        """The content id: kind and digest of the envelope's bytes."""
        return statement_id(self.statement.kind, self.envelope)

    def verify(self, *keys: VerifyKey) -> Statement:
        """Return the statement if exactly these keys signed it.

        Raises:
            SignatureError: they did not.
        """
        _verify(self.envelope, self.statement.media_type(), keys)
        return self.statement


# A service meets each envelope when it comes in and when it is logged, and on one machine every
# party's reader meets it again. Both answers depend on nothing but the arguments; what is refused
# is not remembered.
_REMEMBERED = 4096


@functools.lru_cache(_REMEMBERED)
def _verify(data: bytes, media_type: str, keys: tuple[VerifyKey, ...]) -> None:
    envelope.open_(data, media_type, *keys)


def forget() -> None:
    """Forget what was read and verified, for whoever measures what it costs."""
    read.cache_clear()
    _verify.cache_clear()


@functools.lru_cache(_REMEMBERED)
def read(data: bytes) -> Unverified:
    """Read an envelope of any known kind; signatures are not verified yet.

    The same bytes may give the same object: nobody changes what is inside.

    Raises:
        StatementError: malformed, or of an unknown kind.
    """
    return interpret(envelope.raw_open(data), data)


def interpret(raw: envelope.RawEnvelope, data: bytes) -> Unverified:
    """Return the statement in an envelope that was read from these bytes.

    Raises:
        StatementError: its payload is malformed, or of an unknown kind.
    """
    statement_type = BY_MEDIA_TYPE.get(raw.payload_type)
    if statement_type is None:
        raise StatementError(f"unknown kind of statement: {raw.payload_type[:80]!r}")
    return Unverified(statement_type.from_payload(raw.payload), data)
