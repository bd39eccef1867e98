"""The one word that may leave a node when something goes wrong; sentences stay in its own log.

A sentence may name a line or a file, or come from a library that quotes what it could not read.

    >>> failure_word(ValueError("could not convert '137.06'"))
    'internal'
"""

from __future__ import annotations

from federated.errors import (
    InputError,
    RowsError,
    SidecarError,
    TableError,
    TaskError,
    VaultError,
)
from ledger.errors import LedgerError, RolledBackError, SplitViewError, StaleLogError
from privacy.errors import (
    IdentifierError,
    IntersectionError,
    LinkageError,
    SetSizeError,
    SmallIntersectionError,
)

_OF_TASKS = (
    "isolating_parameters",
    "out_of_bounds",
    "too_few",
    "bad_model",
    "other_features",
    "no_input",
    "bad_input",
)
# The first that fits: a set that is too small is an intersection's error as well.
_WORDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    ((TableError, RowsError, IdentifierError), "bad_data"),
    ((SetSizeError, SmallIntersectionError), "too_few"),
    ((IntersectionError, LinkageError), "bad_parcel"),
    (SidecarError, "sidecar_failed"),
)


def failure_word(error: Exception) -> str:
    """Return the one word that may leave the node for an error; its sentence stays here."""
    if isinstance(error, VaultError):
        return "data_changed" if error.reason == "data_changed" else "bad_data"
    if isinstance(error, TaskError | InputError):
        return error.reason if error.reason in _OF_TASKS else "task_error"
    for kinds, word in _WORDS:
        if isinstance(error, kinds):
            return word
    return "internal"


def log_reason(error: LedgerError) -> str:
    """Return the fixed word of a refusal for what is wrong with the log."""
    if isinstance(error, SplitViewError):
        return "log_split"
    if isinstance(error, StaleLogError):
        return "log_stale"
    return "log_rolled_back" if isinstance(error, RolledBackError) else "not_proven"
