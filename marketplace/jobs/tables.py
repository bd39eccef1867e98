"""Rows of jobs, their parties, inputs, results and contributions."""

from sqlalchemy import BigInteger, CheckConstraint, Index
from sqlmodel import Field, SQLModel


class Job(SQLModel, table=True):
    """A job; the statement is in the log under the same id.

    `fence` grows with every move and every new lease: whoever writes names the value it has seen,
    so a worker that lost its lease cannot write any more.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint("fence >= 0", name="ck_job_fence"),
        Index("ix_job_researcher_claimed", "researcher_id", "claimed"),
    )

    id: str = Field(primary_key=True, max_length=128)
    researcher_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    name: str = Field(max_length=4096)
    task: str = Field(max_length=4096)
    purpose: str = Field(max_length=4096)
    state: str = Field(index=True, max_length=16)
    fence: int = Field(default=0, sa_type=BigInteger)
    attempts: int = 0
    """How many workers took it: more than one only after a lease ended."""
    claimed: int | None = Field(default=None, sa_type=BigInteger)
    """When a worker last took it, Unix milliseconds."""
    lease_until: int | None = Field(default=None, sa_type=BigInteger)
    progress: str = "{}"
    """Canonical JSON."""
    error_reason: str | None = Field(default=None, max_length=64)
    error_message: str | None = Field(default=None, max_length=4096)
    release_id: str | None = Field(default=None, max_length=128)
    created: int = Field(sa_type=BigInteger)
    finished: int | None = Field(default=None, sa_type=BigInteger)


class JobParty(SQLModel, table=True):
    """One asset of a job: its grant and its receipt."""

    __tablename__ = "job_party"

    job_id: str = Field(primary_key=True, foreign_key="job.id", max_length=128)
    asset_id: str = Field(primary_key=True, foreign_key="asset.id", index=True, max_length=128)
    agreement_id: str = Field(foreign_key="agreement.id", index=True, max_length=128)
    provider_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    position: int
    state: str = Field(default="waiting", max_length=16)
    reason: str | None = Field(default=None, max_length=64)
    grant_id: str | None = Field(default=None, unique=True, max_length=128)
    receipt_id: str | None = Field(default=None, unique=True, max_length=128)


class Input(SQLModel, table=True):
    """Bytes that a researcher handed in for a job to come."""

    __tablename__ = "input"

    researcher_id: str = Field(primary_key=True, foreign_key="participant.id", max_length=128)
    digest: str = Field(primary_key=True, max_length=71)
    """`sha256:` and 64 hex digits over the content."""
    size: int = Field(sa_type=BigInteger)
    content: bytes = Field(repr=False)
    created: int = Field(sa_type=BigInteger)
    """When it was last handed in, Unix milliseconds."""


class JobInput(SQLModel, table=True):
    """An input of its researcher's that a job names; gone when the job has ended."""

    __tablename__ = "job_input"

    job_id: str = Field(primary_key=True, foreign_key="job.id", max_length=128)
    digest: str = Field(primary_key=True, max_length=71)


class JobKeyHolder(SQLModel, table=True):
    """A participant with a share of the key that a job's result is under: it may look at the job.

    Its row follows from the `encryption_key` of the signed job.
    """

    __tablename__ = "job_key_holder"

    job_id: str = Field(primary_key=True, foreign_key="job.id", max_length=128)
    participant_id: str = Field(
        primary_key=True, foreign_key="participant.id", index=True, max_length=128
    )


class Result(SQLModel, table=True):
    """The released document: canonical JSON bytes, whose digest is in the release."""

    __tablename__ = "job_result"

    job_id: str = Field(primary_key=True, foreign_key="job.id", max_length=128)
    document: bytes


class JobDeparture(SQLModel, table=True):
    """Who was gone in one exchange of a job: so that whoever takes it over sends the same again."""

    __tablename__ = "job_departure"

    job_id: str = Field(primary_key=True, foreign_key="job.id", max_length=128)
    attempt: int = Field(primary_key=True)
    round: int = Field(primary_key=True)
    step: str = Field(primary_key=True, max_length=64)
    asset_id: str = Field(primary_key=True, foreign_key="asset.id", max_length=128)
    word: str = Field(max_length=64)


class JobOpening(SQLModel, table=True):
    """The secrets that took the masks off the sum of one round: canonical JSON."""

    __tablename__ = "job_opening"

    job_id: str = Field(primary_key=True, foreign_key="job.id", max_length=128)
    round: int = Field(primary_key=True)
    secrets: bytes = Field(repr=False)


class JobContribution(SQLModel, table=True):
    """What one node was asked and what it sent, masked or encrypted, in one round.

    Of a joint job, in its last.
    """

    __tablename__ = "job_contribution"

    job_id: str = Field(primary_key=True, foreign_key="job.id", max_length=128)
    asset_id: str = Field(primary_key=True, foreign_key="asset.id", max_length=128)
    round: int = Field(primary_key=True)
    request: bytes
    reply: bytes
