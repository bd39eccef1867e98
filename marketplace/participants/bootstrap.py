"""The service's own keys and the operator's enrolment, made at the first start.

A key that is missing although the database knows its owner is never replaced: a new log key would
start a second history under an old name.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, select

from ledger import store
from ledger.ids import statement_id
from ledger.keys import SigningKey
from ledger.statements import Participant as ParticipantStatement
from marketplace.context import Context, Verified
from marketplace.database import reading
from marketplace.errors import AuthenticationError, KeyMissingError
from marketplace.participants.access import Secret, scopes_of
from marketplace.participants.service import add_key, add_participant
from marketplace.participants.tables import ApiKey, Participant
from marketplace.settings import Settings


def log_key(settings: Settings, engine: sa.Engine) -> SigningKey:
    """Return the log's key; made if the database is new.

    Raises:
        KeyMissingError: the key file is gone although the log has entries.
        InvalidKeyError: the key file is not safe, or not a key.
    """
    with reading(engine) as session:
        for table in (store.entries, store.pending):
            if session.connection().execute(sa.select(table.c.statement_id).limit(1)).first():
                return _existing(settings.log_key)
    return _load_or_make(settings.log_key, f"{settings.name}/log")


def operator_key(settings: Settings, engine: sa.Engine) -> SigningKey:
    """Return the operator's key; made if the database is new.

    Raises:
        KeyMissingError: the key file is gone although the operator has enrolled.
        InvalidKeyError: the key file is not safe, or not a key.
    """
    with reading(engine) as session:
        if session.exec(select(Participant).limit(1)).first():
            return _existing(settings.operator_key)
    return _load_or_make(settings.operator_key, f"{settings.name}/operator")


def enrol_operator(context: Context) -> Context:
    """Log the operator's participant statement unless it is stored; return the full context.

    The operator's API key is written to its file first: a crash in between leaves a file whose key
    the next start enrols.

    Raises:
        KeyMissingError: the operator's API key file is not one.
    """
    secret = _api_key(context.settings.operator_api_key)
    with context.writing() as session:
        row = session.exec(select(Participant).where(Participant.roles == "operator")).first()
        operator = row.id if row else _enrol(session, context)
        if session.get(ApiKey, secret.public_id) is None:
            add_key(session, context, secret, operator, scopes_of("operator"))
    return replace(context, operator=operator)


def _enrol(session: Session, context: Context) -> str:
    key = context.operator_key
    statement = ParticipantStatement(
        name=context.settings.operator_name,
        roles=("operator",),
        key=key.verify_key.text,
        recovery_key=None,
        issued=context.clock(),
    )
    envelope = statement.sign(key)
    operator = statement_id(statement.kind, envelope)
    add_participant(session, context, Verified(operator, statement, envelope))
    return operator


def _existing(path: Path) -> SigningKey:
    if not path.exists():
        raise KeyMissingError(
            f"{path} is missing, and the database depends on it: restore it from the backup; "
            "a new key would contradict what is logged"
        )
    return SigningKey.load(path)


def _load_or_make(path: Path, name: str) -> SigningKey:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        SigningKey.generate(name).save(path)
    return SigningKey.load(path)


def _api_key(path: Path) -> Secret:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(Secret.generate().text + "\n")
            file.flush()
            os.fsync(descriptor)
    try:
        return Secret.read(path.read_text(encoding="ascii").strip())
    except (AuthenticationError, UnicodeDecodeError) as error:
        raise KeyMissingError(f"{path} holds no API key: delete it to get a new one") from error
