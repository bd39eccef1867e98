"""What researchers hand in for a job before they submit it: bytes, kept by their digest.

The job names the digests and is signed, so nobody here looks inside: encrypted rows and a public
key, which a node fetches when it takes part. Kept for one researcher, as few as a job or two need,
until the job that names them has ended; without a job, for a day.

    digest = keep(context, caller, content).digest
    claim(session, job, digests)          # the job names them
    drop(session, job_id, now)            # it has ended
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, TypedDict

from fastapi import Depends, Request
from sqlalchemy import delete, func
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from federated.scoring_limits import MOST_INPUT_BYTES
from ledger.encoding import sha256_text
from marketplace.context import Context
from marketplace.errors import InvalidError, LimitError
from marketplace.jobs import schemas
from marketplace.jobs.tables import Input, Job, JobInput
from marketplace.participants import access
from marketplace.participants.access import Caller, still_enrolled
from marketplace.repeating import Repeating

MOST = 16
"""Inputs that one researcher may have here."""
MOST_BYTES = 4 * MOST_INPUT_BYTES
"""Of all of them together."""
KEPT_MS = 86_400_000
"""How long an input is kept that no open job names: a day."""
LOOK_SECONDS = 60.0
MEDIA_TYPE = "application/octet-stream"


MOST_UPLOADS = 8
"""Bodies that are read at a time, of all researchers; each is in memory until it is stored."""
MOST_UPLOADS_EACH = 2


class Uploads:
    """Counts the bodies that one service is reading, from any thread."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        # A market on one machine answers on two event loops: in the process, and over the network.
        self._counting = threading.Lock()

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Count one body while it is read and stored.

        Raises:
            LimitError: the caller, or all together, send as many as they may.
        """
        with self._counting:
            if self._open[caller] >= MOST_UPLOADS_EACH or self._open.total() >= MOST_UPLOADS:
                raise LimitError(
                    "too many inputs are being handed in: send them one after the other",
                    code="too_many_inputs",
                )
            self._open[caller] += 1
        try:
            yield
        finally:
            with self._counting:
                self._open[caller] -= 1
                if not self._open[caller]:
                    del self._open[caller]


async def _place(request: Request, caller: access.Researcher) -> AsyncIterator[None]:
    uploads: Uploads = request.app.state.uploads
    with uploads.place(caller.id):
        yield


Place = Annotated[None, Depends(_place)]
"""A dependency: one of the caller's places for a body, until it was stored."""


class _Body(TypedDict):
    description: str
    required: bool
    content: dict[str, dict[str, dict[str, str]]]


BODY: dict[str, _Body] = {
    "requestBody": {
        "description": f"The bytes themselves, at most {MOST_INPUT_BYTES}.",
        "required": True,
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""How the body is described to readers of the API."""


async def received(media_type: str, chunks: AsyncIterator[bytes]) -> bytes:
    """Return a body that `problems.BodyLimit` keeps within its length while it is read.

    Raises:
        InvalidError: it is announced as something else than bytes.
    """
    if media_type != MEDIA_TYPE:
        raise InvalidError(f"an input is sent as {MEDIA_TYPE}", code="invalid_request")
    content = bytearray()
    async for chunk in chunks:
        content += chunk
    return bytes(content)


def keep(context: Context, caller: Caller, content: bytes) -> schemas.InputView:
    """Store an input; the same again is kept from now on.

    Raises:
        InvalidError: it is empty.
        LimitError: the researcher has as many, or as much, as one may have.
    """
    if not content:
        raise InvalidError("an input has at least one byte")
    digest, now = sha256_text(content), context.clock()
    with context.writing() as session:
        still_enrolled(session, caller)
        stored = session.get(Input, (caller.id, digest))
        if stored is not None:
            stored.created = now
        else:
            _must_have_room(session, caller.id, len(content))
            session.add(
                Input(
                    researcher_id=caller.id,
                    digest=digest,
                    size=len(content),
                    content=content,
                    created=now,
                )
            )
    return schemas.InputView(digest=digest, size=len(content))


def claim(session: Session, job: Job, digests: Sequence[str], *, lenient: bool = False) -> None:
    """Note that a job names inputs, which its nodes may fetch from now on.

    Args:
        session: a writing one.
        job: the job.
        digests: what it names.
        lenient: whether to take a job whose inputs are missing, as a dishonest operator would.

    Raises:
        InvalidError: one was not handed in.
    """
    for digest in dict.fromkeys(digests):
        if _is_kept(session, job.researcher_id, digest):
            session.add(JobInput(job_id=job.id, digest=digest))
        elif not lenient:
            raise InvalidError(
                f"{digest[:19]}… was not handed in, or is kept no more: send it to /inputs first",
                code="no_input",
            )


def content_of(session: Session, job: Job, digest: str) -> bytes | None:
    """Return an input that a job names; None where it names no such one."""
    if session.get(JobInput, (job.id, digest)) is None:
        return None
    stored = session.get(Input, (job.researcher_id, digest))
    return None if stored is None else stored.content


def drop(session: Session, job: Job) -> None:
    """Delete what an ended job named, unless another job names it, or it was handed in since."""
    named = select(JobInput.digest).where(JobInput.job_id == job.id)
    digests = list(session.exec(named).all())
    if not digests:
        return
    connection = session.connection()
    connection.execute(delete(JobInput).where(col(JobInput.job_id) == job.id))
    connection.execute(
        delete(Input).where(
            col(Input.researcher_id) == job.researcher_id,
            col(Input.digest).in_(digests),
            col(Input.created) <= job.created,
            col(Input.digest).not_in(_named_by(job.researcher_id)),
        )
    )


class Leftovers(Repeating):
    """Deletes inputs that no job came to name within a day.

    Args:
        context: the service's context.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("inputs", LOOK_SECONDS, LOOK_SECONDS)
        self._context = context

    def run_once(self) -> str | None:
        """Delete one; return its digest, None when there is none.

        Raises:
            MarketplaceError: the database is busy.
        """
        before = self._context.clock() - KEPT_MS
        query = select(Input.researcher_id, Input.digest).where(col(Input.created) < before)
        # Looked at without the write lock first: nobody waits for a look that finds nothing.
        with self._context.reading() as session:
            found = [each for each in session.exec(query).all() if not _is_named(session, *each)]
        if not found:
            return None
        with self._context.writing() as session:
            stored = session.get(Input, found[0])
            if stored is not None and not _is_named(session, *found[0]):
                session.delete(stored)
        return found[0][1]


def _must_have_room(session: Session, researcher: str, size: int) -> None:
    query = select(func.count(), func.coalesce(func.sum(Input.size), 0)).where(
        Input.researcher_id == researcher
    )
    count, total = session.exec(query).one()
    if count >= MOST or total + size > MOST_BYTES:
        raise LimitError(
            f"{count} inputs of yours with {total} bytes are kept, and one researcher may have "
            f"{MOST} with {MOST_BYTES}: wait until a job of yours has ended, or cancel one",
            code="too_many_inputs",
        )


def _is_kept(session: Session, researcher: str, digest: str) -> bool:
    # Asked for the digest alone: the content may be long.
    query = select(Input.digest).where(Input.researcher_id == researcher, Input.digest == digest)
    return session.exec(query).first() is not None


def _named_by(researcher: str) -> SelectOfScalar[str]:
    """Return the query for the digests that a researcher's jobs name."""
    return (
        select(JobInput.digest)
        .join(Job, col(Job.id) == col(JobInput.job_id))
        .where(Job.researcher_id == researcher)
    )


def _is_named(session: Session, researcher: str, digest: str) -> bool:
    query = (
        select(JobInput.job_id)
        .join(Job, col(Job.id) == col(JobInput.job_id))
        .where(Job.researcher_id == researcher, JobInput.digest == digest)
    )
    return session.exec(query).first() is not None
