"""Who is calling, and what that key may do; everything is refused unless permitted here.

    def post_offer(caller: Provider, …)      # the permission stands in the route's signature

A key is `rsk_<public id>_<secret>`: the public id finds the row, the secret (32 random bytes) is
compared with its stored SHA-256 in constant time. A fast hash is enough for 32 random bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlmodel import Session

from marketplace.context import Ctx
from marketplace.errors import AuthenticationError, ForbiddenError
from marketplace.participants.tables import ApiKey, Participant

SCOPES = ("provider", "researcher", "auditor", "operator", "node")
_KEY = re.compile(r"rsk_([0-9a-f]{16})_([0-9a-f]{64})")
_bearer = HTTPBearer(auto_error=False, description="API key: rsk_<public id>_<secret>")


@dataclass(frozen=True)
class Secret:
    """A new API key; its text is shown once and never stored."""

    public_id: str
    text: str = field(repr=False)

    @property
    def stored(self) -> str:
        """The hash that the database keeps."""
        return hash_secret(self.text.rpartition("_")[2])

    @classmethod
    def generate(cls) -> Secret:
        """Return a fresh key from the system's randomness."""
        public_id = secrets.token_hex(8)
        return cls(public_id, f"rsk_{public_id}_{secrets.token_hex(32)}")

    @classmethod
    def read(cls, text: str) -> Secret:
        """Read a key that `generate` made.

        Raises:
            AuthenticationError: any other text.
        """
        match = _KEY.fullmatch(text)
        if match is None:
            raise AuthenticationError
        return cls(match[1], text)


@dataclass(frozen=True)
class Caller:
    """The participant behind a valid API key.

    Attributes:
        id: id of its participant statement.
        scopes: what this key may do; at most what the participant's roles permit.
    """

    id: str
    name: str
    scopes: frozenset[str]

    @property
    def sees_all(self) -> bool:
        """Whether this key may read what belongs to others."""
        return bool(self.scopes & {"auditor", "operator"})

    def must_be(self, participant: str) -> None:
        """Refuse a statement in somebody else's name.

        Raises:
            ForbiddenError: the participant is another.
        """
        if participant != self.id:
            raise ForbiddenError("the statement is another participant's", code="not_author")


def hash_secret(secret: str) -> str:
    """Return the hex SHA-256 under which a secret is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def scopes_of(roles: str) -> tuple[str, ...]:
    """Return all scopes that a participant with these roles can give its keys."""
    words = roles.split()
    return (*words, "node") if "provider" in words else tuple(words)


def authenticate(session: Session, text: str) -> Caller:
    """Return the caller that an API key belongs to.

    Raises:
        AuthenticationError: unknown, wrong or ended; the message does not say which.
    """
    given = Secret.read(text)
    row = session.get(ApiKey, given.public_id)
    # Compared even when there is no row, so that time does not tell which public ids exist.
    same = hmac.compare_digest(row.secret_hash if row else "0" * 64, given.stored)
    if row is None or not same or row.ended is not None:
        raise AuthenticationError
    participant = session.get(Participant, row.participant_id)
    if participant is None or participant.revoked is not None:
        raise AuthenticationError
    permitted = frozenset(row.scopes.split()) & frozenset(scopes_of(participant.roles))
    return Caller(participant.id, participant.name, permitted)


def still_enrolled(session: Session, caller: Caller) -> None:
    """Refuse a caller whose key was revoked since it was authenticated.

    Raises:
        AuthenticationError: it was.
    """
    participant = session.get(Participant, caller.id)
    if participant is None or participant.revoked is not None:
        raise AuthenticationError


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _caller(context: Ctx, credentials: Credentials) -> Caller:
    if credentials is None:
        raise AuthenticationError
    with context.reading() as session:
        return authenticate(session, credentials.credentials)


class Requires:
    """A dependency: the caller's key has at least one of these scopes."""

    def __init__(self, *scopes: str) -> None:
        self.scopes = frozenset(scopes)

    def __call__(self, caller: Annotated[Caller, Depends(_caller)], request: Request) -> Caller:
        """Return the caller.

        Raises:
            ForbiddenError: its key has none of the scopes.
        """
        if not self.scopes & caller.scopes:
            wanted = " or ".join(sorted(self.scopes))
            raise ForbiddenError(f"{request.method} {request.url.path} needs the scope {wanted}")
        return caller


Enrolled = Annotated[Caller, Depends(Requires(*SCOPES))]
Operator = Annotated[Caller, Depends(Requires("operator"))]
Provider = Annotated[Caller, Depends(Requires("provider"))]
Researcher = Annotated[Caller, Depends(Requires("researcher"))]
Node = Annotated[Caller, Depends(Requires("node"))]
NodeOrProvider = Annotated[Caller, Depends(Requires("node", "provider"))]
Party = Annotated[Caller, Depends(Requires("provider", "researcher"))]
PartyOrOperator = Annotated[Caller, Depends(Requires("provider", "researcher", "operator"))]
PartyOrOverseer = Annotated[
    Caller, Depends(Requires("provider", "researcher", "node", "auditor", "operator"))
]
