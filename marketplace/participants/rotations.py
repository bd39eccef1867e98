"""New keys of participants and of their nodes."""

from __future__ import annotations

from sqlmodel import Session

from ledger.keys import VerifyKey
from ledger.statements import Rotation
from marketplace.context import Context, Verified
from marketplace.participants.access import Caller, still_enrolled
from marketplace.participants.tables import Participant


def rotate(session: Session, context: Context, caller: Caller, verified: Verified[Rotation]) -> str:
    """Store a rotation; return its id. The log's rules have checked who signed it.

    API keys stay as they are: who lost one ends it, whether or not the signing key is new.

    Raises:
        ForbiddenError: issued in another's name, or the caller was revoked.
        ConflictError: somebody enrolled with the new key meanwhile.
    """
    statement = verified.statement
    caller.must_be(statement.issuer)
    still_enrolled(session, caller)
    if not statement.of_node:
        # The column is unique: the database decides when an enrolment with the same key races.
        row = session.get_one(Participant, statement.subject)
        row.public_key = VerifyKey.from_text(statement.new_key).public.hex()
    session.flush()
    return context.submit(session, verified.envelope)
