"""What every request works with: settings, database, log, clock and the operator's key.

Decides the one way in which a signed statement becomes a logged fact:

    verified = context.check(envelope, Offer)         # signatures and rules, before any lock
    with context.writing() as session:                # business rows and statement, one transaction
        offer_id = service.make_offer(session, context, caller, verified)
    return context.logged(offer_id)                   # only when a checkpoint covers it

The check comes before the transaction because the log's sequencer needs the database's write lock:
whoever held that lock while asking the log could wait for it for ever. What may change between
check and transaction (revocations, quotas, duplicates) is looked at again inside the transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Generic, TypeVar

import sqlalchemy as sa
from fastapi import Depends, Request
from sqlmodel import Session

from ledger.encoding import parse
from ledger.errors import LogError, RuleError
from ledger.history import Logged
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.statements import Statement, read
from marketplace import database
from marketplace.errors import ConflictError, InvalidError, NotFoundError
from marketplace.settings import Settings

S = TypeVar("S", bound=Statement)


@dataclass(frozen=True)
class Verified(Generic[S]):
    """A statement whose signatures and rules were checked against the log.

    Attributes:
        id: its content id.
    """

    id: str
    statement: S
    envelope: bytes


@dataclass(frozen=True)
class Context:
    """Everything a route needs that is not in the request.

    Attributes:
        clock: returns Unix milliseconds.
        operator: id of the operator's participant statement.
        operator_key: signs releases, settlements, upkeep of the log, and the leases under which
            nodes are asked.
        insecure_skip_checks: for tests alone: the operator accepts jobs and grants without
            checking them, so that the nodes' own refusals can be seen.
    """

    settings: Settings
    engine: sa.Engine = field(repr=False)
    log: Log = field(repr=False)
    clock: Callable[[], int] = field(repr=False)
    operator: str
    operator_key: SigningKey = field(repr=False)
    insecure_skip_checks: bool = False

    def reading(self) -> AbstractContextManager[Session]:
        """Return a reading transaction."""
        return database.reading(self.engine)

    def writing(self) -> AbstractContextManager[Session]:
        """Return a writing transaction: committed at its end, or nothing."""
        return database.writing(self.engine)

    def check(self, envelope: bytes, kind: type[S], *, lenient: bool = False) -> Verified[S]:
        """Verify a party's statement against everything logged so far.

        Args:
            envelope: the signed statement.
            kind: what is expected here.
            lenient: whether `insecure_skip_checks` covers this statement's rules.

        Raises:
            InvalidError: a statement of another kind.
            LedgerError: malformed, wrongly signed, or against a rule.
        """
        found = read(envelope)
        if not isinstance(found.statement, kind):
            raise InvalidError(
                f"this is a statement of kind {found.statement.kind}; "
                f"here one of kind {kind.kind} is expected",
                code="wrong_kind",
            )
        if found.id in self.log.history.by_id:
            # Sent again after a lost answer: these very bytes were verified when they were logged,
            # and would break the rule against duplicates now.
            return Verified(found.id, found.statement, envelope)
        try:
            self.log.check(envelope)
        except RuleError:
            if not (lenient and self.insecure_skip_checks):
                raise
        return Verified(found.id, found.statement, envelope)

    def submit(self, session: Session, envelope: bytes) -> str:
        """Store a verified statement as pending, inside the caller's transaction.

        Raises:
            ConflictError: it rests on a statement that is not in the log.
        """
        try:
            return self.log.submit(session.connection(), envelope)
        except LogError as error:
            raise ConflictError(str(error), code="unknown_reference") from error

    def logged(self, statement_id: str) -> int:
        """Wait until a checkpoint covers a statement, and return its log index.

        Raises:
            LogError: not in time.
        """
        return self.log.wait_for(statement_id, timeout=float(self.settings.log_wait_seconds))

    def find(self, statement_id: str, kind: type[S]) -> S:
        """Return a logged statement.

        Raises:
            NotFoundError: there is none with this id and kind.
        """
        statement = self.entry(statement_id).statement
        if not isinstance(statement, kind):
            raise NotFoundError(f"there is no {kind.kind} with this id")
        return statement

    def entry(self, statement_id: str) -> Logged:
        """Return a logged statement with its place in the log.

        Raises:
            NotFoundError: there is none with this id.
        """
        logged = self.log.history.by_id.get(statement_id)
        if logged is None:
            raise NotFoundError
        return logged


def context_of(request: Request) -> Context:
    """Return the context that the composition root put into the app."""
    context = request.app.state.context
    if not isinstance(context, Context):
        raise NotFoundError("the service is not started")
    return context


Ctx = Annotated[Context, Depends(context_of)]


def load(text: str) -> dict[str, object]:
    """Return a JSON object that this service wrote into its own database."""
    value = parse(text.encode())
    if not isinstance(value, dict):
        raise InvalidError("not an object")
    return value
