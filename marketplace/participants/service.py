"""Enrolment, API keys, and lists of participants."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import update
from sqlmodel import Session, col, select

from ledger.keys import VerifyKey
from ledger.statements import Participant as ParticipantStatement
from marketplace.context import Context, Verified
from marketplace.errors import ForbiddenError, NotFoundError
from marketplace.participants.access import Caller, Secret, hash_secret, scopes_of
from marketplace.participants.schemas import Me, ParticipantView
from marketplace.participants.tables import ApiKey, Enrolment, Participant

HOUR_MS = 3_600_000


def issue_code(
    session: Session, context: Context, roles: Sequence[str], note: str
) -> tuple[str, int]:
    """Make a one-time code; return it and the time of its end in Unix milliseconds."""
    code = f"rse_{secrets.token_hex(32)}"
    expires = context.clock() + context.settings.enrolment_hours * HOUR_MS
    words = " ".join(sorted(set(roles)))
    session.add(Enrolment(code_hash=hash_secret(code), roles=words, note=note, expires=expires))
    return code, expires


def enrol(
    session: Session, context: Context, code: str, verified: Verified[ParticipantStatement]
) -> Secret:
    """Turn a code and a participant's statement into a participant with an API key.

    Raises:
        ForbiddenError: the code is unknown, used or over, or is for other roles.
        ConflictError: the key is enrolled already.
    """
    now, statement = context.clock(), verified.statement
    # One conditional update decides who uses the code; a second caller finds nothing to update.
    used = session.connection().execute(
        update(Enrolment)
        .where(col(Enrolment.code_hash) == hash_secret(code))
        .where(col(Enrolment.used).is_(None), col(Enrolment.expires) > now)
        .values(used=now)
    )
    if used.rowcount != 1:
        raise ForbiddenError("the enrolment code is unknown, used or over", code="bad_code")
    row = session.get_one(Enrolment, hash_secret(code))
    if sorted(statement.roles) != row.roles.split():
        raise ForbiddenError(f"the code is for the roles {row.roles}", code="wrong_roles")
    add_participant(session, context, verified)
    session.flush()
    row.participant_id = verified.id
    secret = Secret.generate()
    add_key(session, context, secret, verified.id, scopes_of(row.roles))
    return secret


def add_participant(
    session: Session, context: Context, verified: Verified[ParticipantStatement]
) -> None:
    """Store a participant and its statement."""
    statement = verified.statement
    session.add(
        Participant(
            id=verified.id,
            name=statement.name,
            roles=" ".join(sorted(statement.roles)),
            public_key=VerifyKey.from_text(statement.key).public.hex(),
            created=context.clock(),
        )
    )
    session.flush()
    context.submit(session, verified.envelope)


def add_key(
    session: Session, context: Context, secret: Secret, participant: str, scopes: Sequence[str]
) -> None:
    """Store the hash of an API key."""
    session.add(
        ApiKey(
            public_id=secret.public_id,
            secret_hash=secret.stored,
            participant_id=participant,
            scopes=" ".join(scopes),
            created=context.clock(),
        )
    )


def further_key(
    session: Session, context: Context, caller: Caller, scopes: Sequence[str]
) -> Secret:
    """Make another API key for the caller, with no more scopes than it has now.

    Raises:
        ForbiddenError: a scope that the calling key lacks.
    """
    lacking = sorted(set(scopes) - caller.scopes)
    if lacking:
        raise ForbiddenError(f"this key has no scope {lacking[0]} to hand on")
    secret = Secret.generate()
    add_key(session, context, secret, caller.id, sorted(set(scopes)))
    return secret


def end_key(session: Session, context: Context, caller: Caller, public_id: str) -> None:
    """End one of the caller's own API keys.

    Raises:
        NotFoundError: the caller has no such key.
    """
    row = session.get(ApiKey, public_id)
    if row is None or row.participant_id != caller.id:
        raise NotFoundError
    row.ended = row.ended or context.clock()


def participants(session: Session, context: Context) -> list[ParticipantView]:
    """Return everybody who enrolled, oldest first."""
    rows = session.exec(select(Participant).order_by(col(Participant.created))).all()
    return [_view(context, row) for row in rows if row.id in context.log.history.by_id]


def participant(session: Session, context: Context, participant_id: str) -> ParticipantView:
    """Return one participant.

    Raises:
        NotFoundError: there is none with this id.
    """
    row = session.get(Participant, participant_id)
    if row is None:
        raise NotFoundError
    return _view(context, row)


def names(session: Session) -> dict[str, str]:
    """Return the name of every participant by id."""
    return {row.id: row.name for row in session.exec(select(Participant)).all()}


def me(session: Session, caller: Caller) -> Me:
    """Return what the caller's key shows of it."""
    row = session.get_one(Participant, caller.id)
    return Me(
        participant=row.id,
        name=row.name,
        roles=row.roles.split(),
        scopes=sorted(caller.scopes),
    )


def _view(context: Context, row: Participant) -> ParticipantView:
    key = context.log.history.participant_key(row.id)
    return ParticipantView(
        id=row.id,
        name=row.name,
        roles=row.roles.split(),
        key=key.text,
        fingerprint=key.fingerprint,
        created=row.created,
        revoked=row.revoked,
    )
