"""Everything the marketplace can refuse, as one tree, and the one table that maps it to HTTP.

    MarketplaceError
    ├── SettingsError             a setting that cannot be meant
    ├── DatabaseError             a database file that must not be used
    │   ├── NewerDatabaseError    written by a newer version
    │   └── ForeignDatabaseError  not a Rongshu database
    ├── KeyMissingError           a key file that the database depends on is gone
    ├── AuthenticationError       no valid API key
    ├── ForbiddenError            a valid key that may not do this
    ├── NotFoundError             no such thing, or not for this caller's eyes
    ├── ConflictError             it contradicts what is stored
    │   ├── TransitionError       not a permitted move of a state machine
    │   ├── LeaseLostError        somebody else moved the job meanwhile
    │   └── BusyError             the database stayed locked
    ├── LimitError                this caller has as much of it as one may have
    ├── InvalidError              well-formed JSON that makes no sense here
    ├── TermsError                the terms do not permit the request; `code` is the reason word
    └── ReleaseError              the output gate found a reason to hold a result back

`code` is a fixed word for programs, the message is for people. Only these messages and those of
`ledger.errors` and `federated.errors` reach a caller; see `marketplace.problems`.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class MarketplaceError(Exception):
    """The marketplace refuses this.

    Attributes:
        code: fixed word for programs.
    """

    default_code: ClassVar[str] = "refused"

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))
        self.code = code or self.default_code


class SettingsError(MarketplaceError):
    """A setting cannot be used."""

    default_code = "settings"


class DatabaseError(MarketplaceError):
    """The database file cannot be used."""

    default_code = "database"


class NewerDatabaseError(DatabaseError):
    """The database was written by a newer version of Rongshu."""


class ForeignDatabaseError(DatabaseError):
    """The file is a database of something else."""


class KeyMissingError(MarketplaceError):
    """A key file that the database depends on is missing."""

    default_code = "key_missing"


class AuthenticationError(MarketplaceError):
    """A valid API key is needed: send `Authorization: Bearer rsk_…`."""

    default_code = "unauthenticated"


class ForbiddenError(MarketplaceError):
    """This API key may not do that."""

    default_code = "forbidden"


class NotFoundError(MarketplaceError):
    """There is no such thing, or it is not for this key to see."""

    default_code = "not_found"


class ConflictError(MarketplaceError):
    """This contradicts what is stored."""

    default_code = "conflict"


class TransitionError(ConflictError):
    """This move is not permitted from the present state."""

    default_code = "invalid_transition"


class LeaseLostError(ConflictError):
    """The job was moved by somebody else meanwhile."""

    default_code = "lease_lost"


class BusyError(ConflictError):
    """The database is busy; try again."""

    default_code = "busy"


class LimitError(MarketplaceError):
    """There is a limit to this for each caller, and it is reached."""

    default_code = "limit_reached"


class InvalidError(MarketplaceError):
    """This makes no sense here."""

    default_code = "invalid"


class TermsError(MarketplaceError):
    """The terms do not permit this; `code` is one of the fixed words of a refusal."""

    default_code = "grant_mismatch"


class ReleaseError(MarketplaceError):
    """The result may not be released."""

    default_code = "release_refused"


HTTP_STATUS: dict[type[MarketplaceError], int] = {
    AuthenticationError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    BusyError: 503,
    LimitError: 429,
    InvalidError: 422,
    TermsError: 409,
}
"""The nearest class above an error decides; what has no class here is an unexpected error."""

UNPROCESSABLE_REASONS = frozenset(
    {"purpose_not_allowed", "code_unknown", "grant_mismatch", "row_selection_not_allowed"}
)
"""Refusals for what was asked (422: ask for something else), not for the state of things (409)."""


def http_status(error: MarketplaceError) -> int | None:
    """Return the HTTP status of an error; None for one that no request should have met."""
    if isinstance(error, TermsError) and error.code in UNPROCESSABLE_REASONS:
        return 422
    return next((HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS), None)
