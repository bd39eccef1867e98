"""Everything `federated` can refuse, as one tree; the docstring of each is its default message.

    FederatedError
    ├── PlanError            a plan that is not one
    ├── PreparationError     a row preparation that cannot be meant; `.field` names the place
    ├── TaskError            a computation that cannot be done; `.reason` is a fixed word
    ├── TableError           a data file that cannot be read; `.file`, `.line`, `.column`
    ├── RowsError            a table that the preparation does not fit; `.reason`, `.column`
    ├── VaultError           a data file that must not be used; `.reason`
    ├── InputError           what a researcher handed in for a job cannot be used; `.reason`
    ├── MessageError         bytes that are no message of this protocol
    ├── PeerKeyError         a mask key that its node did not sign, or signed for another use
    ├── ChannelError         a channel key or a parcel that is not what its node sent
    ├── SurvivorsError       a survivor list that its node did not sign, or that differs
    ├── ContributionError    a contribution that is not the one asked for; `.asset`, `.reason`
    ├── RefusedError         a job that this node will not compute; `.reason` is a fixed word
    ├── JournalError         a node's journal that cannot be trusted or written
    │   └── JournalCutError  lines are gone that the node signed over, as the log shows
    ├── NodeError            a node that is set up wrongly
    │   ├── NotTakenError    the marketplace refuses a statement, and will again
    │   └── TooEarlyError    it does not take it yet: the node's clock is ahead
    ├── ReceiptError         a receipt that is not the node's account of what crossed
    ├── PresenceError        a heartbeat or an enrolment that is not its node's
    │   └── SupersededError  a process of the node that another one has followed
    ├── LeaseError           a request without a lease that this node follows; `.reason`
    │   └── LeaseSignatureError  a lease that the operator did not sign, as far as is known
    ├── CertificateError     a TLS certificate that cannot be made or read
    ├── SuperLinkError       Flower's SuperLink does not start, answer or know a run
    │   └── KeyRefusedError  a node's key that it does not take
    ├── SidecarError         the sidecar cannot be installed or used
    │   ├── SidecarMissingError  it is not there, or not whole
    │   ├── SidecarLockError     the list of what it is made from cannot be trusted
    │   ├── SidecarPythonError   there is none for this Python
    │   ├── SidecarVersionError  it, or the other party's, is another version
    │   ├── SidecarTimeoutError  an intersection took too long
    │   ├── PeerMissingError     the other party's sidecar is not there, or left
    │   ├── PeerDisagreesError   the two parties do not mean the same intersection
    │   ├── WorkerDiedError      its program ended without an answer
    │   └── IdsError             ids that make no set
    └── GridError            a Grid used against its rules

No message holds a cell of the data: at most a file's name, a line, a column or a party.
"""

import difflib
from collections.abc import Iterable


class FederatedError(Exception):
    """A federated computation refused."""

    def __init__(self, message: str | None = None) -> None:
        """Takes the message, or else the class's own docstring."""
        super().__init__(message or (self.__doc__ or "").strip())


class PlanError(FederatedError):
    """This is not a plan."""


class PreparationError(FederatedError):
    """This is not a row preparation."""

    def __init__(self, field: str, message: str) -> None:
        """Takes the place, e.g. "split.train", and what is wrong with it."""
        super().__init__(f"{field}: {message}")
        self.field = field


class TaskError(FederatedError):
    """This computation cannot be done.

    `reason` is one of: unknown_task unknown_step unknown_parameter bad_parameter unknown_column
    not_numeric one_party one_class constant_column collinear separation not_converged no_rows
    overflow out_of_bounds layout_mismatch out_of_order isolating_parameters too_few
    reports_differ bad_model other_features too_many_rows.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Takes the fixed word and a message that names column or party and what to do."""
        super().__init__(message)
        self.reason = reason


class TableError(FederatedError):
    """This data file cannot be read."""

    def __init__(
        self, file: str, message: str, *, line: int | None = None, column: str | None = None
    ) -> None:
        """Takes the file's name and where in it the reader stopped (lines count from 1)."""
        place = file
        if line is not None:
            place += f", line {line}"
        if column is not None:
            place += f", column {column!r}"
        super().__init__(f"{place}: {message}")
        self.file, self.line, self.column = file, line, column


class RowsError(FederatedError):
    """The preparation does not fit this table.

    `reason` is one of: unknown_column not_numeric not_whole undeclared_level missing_values
    no_label row_set_mismatch.
    """

    def __init__(self, reason: str, column: str | None, message: str) -> None:
        """Takes the fixed word, the column if there is one, and a message that names it."""
        super().__init__(message)
        self.reason, self.column = reason, column


class VaultError(FederatedError):
    """This data file must not be used.

    `reason` is one of: unknown_asset unreadable too_large data_changed.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Takes the fixed word and a message that names the asset and what to do."""
        super().__init__(message)
        self.reason = reason


class InputError(FederatedError):
    """What the researcher handed in for a job cannot be used.

    `reason` is `no_input`: it is not to be had; or `bad_input`: it is not what the job names, or
    cannot be computed on.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Takes the fixed word and a message without any of the bytes."""
        super().__init__(message)
        self.reason = reason


class MessageError(FederatedError):
    """These bytes are no message of this protocol."""


class PeerKeyError(FederatedError):
    """A mask key was not signed by its node, or was made for another use."""


class ChannelError(FederatedError):
    """A channel key or a parcel is not what the node sent that it is said to come from."""


class SurvivorsError(FederatedError):
    """Survivors do not agree on one list, or too few of them signed it."""


class ContributionError(FederatedError):
    """A contribution is not the one asked for.

    `reason` is one of: wrong_asset wrong_job wrong_attempt wrong_round wrong_form wrong_length.
    """

    def __init__(self, asset: str, reason: str) -> None:
        """Takes the asset that sent it and the fixed word."""
        super().__init__(f"the contribution of {asset} has the {reason.replace('_', ' ')}")
        self.asset, self.reason = asset, reason


class ReceiptError(FederatedError):
    """A receipt is not this node's account of what was asked of it and what it sent."""


class PresenceError(FederatedError):
    """This heartbeat or enrolment is not its node's, or was used before."""


class SupersededError(PresenceError):
    """Another process has taken this node's place; this one must end."""


class LeaseError(FederatedError):
    """A request came without a lease that this node follows.

    `reason` is `bad_lease` or `stale_lease`.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Takes the fixed word, and a sentence for the node's own operator."""
        super().__init__(message)
        self.reason = reason


class LeaseSignatureError(LeaseError):
    """A lease is not signed by the operator's key, as far as the log is known."""

    def __init__(self, message: str) -> None:
        """Takes a sentence for the node's own operator; the word is `bad_lease`."""
        super().__init__("bad_lease", message)


class CertificateError(FederatedError):
    """This TLS certificate cannot be made or read."""


class SuperLinkError(FederatedError):
    """Flower's SuperLink does not start, does not answer, or refuses."""


class ReplyTooLongError(SuperLinkError):
    """A node's reply is longer than the operator's service takes."""


class KeyRefusedError(SuperLinkError):
    """A SuperLink does not take a node's key: it is none, or was let in before and is no more."""


class SidecarError(FederatedError):
    """The sidecar cannot be installed or used."""


class SidecarMissingError(SidecarError):
    """The sidecar is not installed here; `rongshu sidecar spu install` does it."""


class SidecarLockError(SidecarError):
    """The list of packages that the sidecar is made from is damaged; install Rongshu again."""


class SidecarPythonError(SidecarError):
    """The sidecar has no build for this version of Python."""


class SidecarVersionError(SidecarError):
    """The two parties' sidecars are of different versions."""


class SidecarTimeoutError(SidecarError):
    """The intersection took longer than the settings allow."""


class PeerMissingError(SidecarError):
    """The other party's sidecar was not there in time, left, or is not the one expected."""


class PeerDisagreesError(SidecarError):
    """The other party means another intersection: other context, or other receivers."""


class WorkerDiedError(SidecarError):
    """The sidecar's program ended without an answer; perhaps it ran out of memory."""


class IdsError(SidecarError):
    """These ids make no set: at least one, none empty, none twice, each on one line."""


class GridError(FederatedError):
    """A Grid was used against its rules."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Returns the end of an error message: the nearest known word and all of them.

    >>> suggestion("statistic", ["logistic", "statistics"])
    "; did you mean 'statistics'? Known: logistic, statistics"
    """
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    asked = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{asked} Known: {', '.join(words) or 'none'}".replace(";  ", "; ")


class RefusedError(FederatedError):
    """This node will not compute that job.

    `reason` is one of `ledger.statements.REFUSAL_REASONS`; only this word leaves the node.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Takes the fixed word, and a sentence for the node's own operator."""
        super().__init__(message)
        self.reason = reason


class JournalError(FederatedError):
    """The node's journal cannot be trusted or written."""


class JournalCutError(JournalError):
    """The journal has lost lines that this node signed over, as its statements in the log show."""

    def __init__(self, line: int, last: int, statement: str) -> None:
        """Takes the line that must be there, the last one that is, and whose statement shows it."""
        super().__init__(
            f"the journal has {last} lines, but {statement} in the log stands in its line {line}: "
            "it was cut, changed or restored from an older backup. Put the newest journal.db back; "
            "if it is lost, revoke the asset and list the data again with a new node"
        )
        self.line, self.statement = line, statement


class NodeError(FederatedError):
    """The node is set up wrongly."""


class NotTakenError(NodeError):
    """The marketplace refuses a statement, and would refuse it again."""


class TooEarlyError(NodeError):
    """The marketplace does not take a statement yet: the log's time is far behind its own."""
