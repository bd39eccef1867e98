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
    ChildError,
    IdentifierError,
    IntersectionError,
    LinkageError,
    MpcError,
    PeersError,
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
_BY_KIND: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((TableError, RowsError, IdentifierError), "bad_data"),
    ((SetSizeError, SmallIntersectionError), "too_few"),
    ((IntersectionError, LinkageError, PeersError), "bad_parcel"),
    ((SidecarError,), "sidecar_failed"),
    ((ChildError,), "child_died"),
    ((MpcError,), "task_error"),
)
"""The first that an error is of decides."""


def failure_word(error: Exception) -> str:
    """Return the one word that may leave the node for an error; its sentence stays here."""
    if isinstance(error, VaultError):
        return "data_changed" if error.reason == "data_changed" else "bad_data"
    if isinstance(error, TaskError | InputError):
        return error.reason if error.reason in _OF_TASKS else "task_error"
    return next((word for kinds, word in _BY_KIND if isinstance(error, kinds)), "internal")


def log_reason(error: LedgerError) -> str:
    """Return the fixed word of a refusal for what is wrong with the log."""
    if isinstance(error, SplitViewError):
        return "log_split"
    if isinstance(error, StaleLogError):
        return "log_stale"
    return "log_rolled_back" if isinstance(error, RolledBackError) else "not_proven"
