"""Rows of participants, API keys and enrolment codes; secrets are stored as hashes alone."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class Participant(SQLModel, table=True):
    """Who has enrolled; its statement is in the log under the same id."""

    __tablename__ = "participant"

    id: str = Field(primary_key=True, max_length=128)
    name: str = Field(max_length=4096)
    roles: str = Field(max_length=128)
    """Words separated by blanks."""
    public_key: str = Field(unique=True, max_length=64)
    """Hex. The database decides when two enrolments with one key race."""
    created: int = Field(sa_type=BigInteger)
    revoked: int | None = Field(default=None, sa_type=BigInteger)


class ApiKey(SQLModel, table=True):
    """A key to the API; `rsk_<public id>_<secret>`."""

    __tablename__ = "api_key"

    public_id: str = Field(primary_key=True, max_length=32)
    secret_hash: str = Field(max_length=64)
    participant_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    scopes: str = Field(max_length=128)
    """Words separated by blanks; none permits nothing."""
    created: int = Field(sa_type=BigInteger)
    ended: int | None = Field(default=None, sa_type=BigInteger)


class Enrolment(SQLModel, table=True):
    """A one-time code that lets somebody enrol in certain roles."""

    __tablename__ = "enrolment"

    code_hash: str = Field(primary_key=True, max_length=64)
    roles: str = Field(max_length=128)
    note: str = Field(max_length=4096)
    expires: int = Field(sa_type=BigInteger)
    used: int | None = Field(default=None, sa_type=BigInteger)
    participant_id: str | None = Field(default=None, foreign_key="participant.id", max_length=128)
