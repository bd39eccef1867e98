"""Everything that can be wrong with evidence, as one tree.

    LedgerError
    ├── EncodingError      bytes or values that are not canonical
    ├── InvalidKeyError    a key, key text or key file that must not be used
    │   └── UnsupportedKeyError   a key of a kind that the library here does not know
    ├── SignatureError     a known key, a signature that it did not make
    ├── NoteError          a signed note or checkpoint outside its format
    ├── PolicyError        a trust policy outside its format
    ├── ProofError         a Merkle proof that does not show what it claims
    ├── StatementError     a signed fact that breaks the rules of its kind
    ├── JournalFormatError a node's journal that is malformed or has a gap
    ├── EntryError         a log entry that does not fit its place in the chain
    ├── ViewError          a view key that does not open what it is held against
    ├── RuleError          a fact that contradicts the facts before it
    ├── EvidenceError      a check that needs an opening nobody gave
    │   ├── UnprovenForkError   two histories, and too little of them to prove it to others
    │   └── SealedGroundsError   signed by its authors, but it rests on a sealed entry
    ├── LogError           a log that cannot go on without risking a second history
    │   └── CosigningError     too few witnesses answered; the log goes on with its older checkpoint
    ├── FetchError         an answer from elsewhere that did not come whole
    ├── StateError         a monitor's own memory that is damaged, or in use
    │   └── OtherVersionError   it holds what another version of the program knew
    ├── EvidenceFileError  a file that an auditor gives is outside its format
    ├── ReportError        an audit report that cannot be made, or does not reproduce
    ├── ExportError        an exported folder that is damaged or incomplete
    ├── WitnessError       a checkpoint that a witness does not cosign
    ├── WorkerError        a check whose process ended before it answered
    └── TrustError         evidence that no trusted key vouches for
        ├── SplitViewError     one log, two histories
        ├── RolledBackError    a log that shows less than was verified before
        └── StaleLogError      a checkpoint that its witnesses saw too long ago

A caller that cannot go on in any case catches `LedgerError`; the others exist where callers differ
in what they do next. The docstring of a class is its message when none is given.
"""

from __future__ import annotations

import inspect


class LedgerError(Exception):
    """The evidence cannot be accepted."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))


class EncodingError(LedgerError):
    """The bytes are not the canonical encoding of any value."""


class InvalidKeyError(LedgerError):
    """The key is malformed, weak or not safely stored."""


class UnsupportedKeyError(InvalidKeyError):
    """The key is of a kind that the cryptography library here does not know."""


class SignatureError(LedgerError):
    """The signature does not verify under the key that it names."""


class NoteError(LedgerError):
    """The text is not a well-formed signed note."""


class PolicyError(LedgerError):
    """The text is not a well-formed trust policy."""


class ProofError(LedgerError):
    """The Merkle proof does not show what it claims."""


class StatementError(LedgerError):
    """The statement breaks the rules of its kind."""


class JournalFormatError(LedgerError):
    """The journal is malformed, or a line of it is missing or was changed."""


class EntryError(LedgerError):
    """The log entry does not fit its place in the chain."""


class ViewError(LedgerError):
    """The view key does not open this, or the file of view keys is malformed."""


class RuleError(LedgerError):
    """The statement contradicts the statements before it.

    Attributes:
        code: the fixed word of the finding.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EvidenceError(LedgerError):
    """A check needs the opening of an entry that stayed sealed."""


class UnprovenForkError(EvidenceError):
    """The log has two histories, but proving it to others takes what is behind both."""


class SealedGroundsError(EvidenceError):
    """Its authors signed it, but a rule needs an entry that stayed sealed."""


class LogError(LedgerError):
    """The log cannot go on without risking a second history."""


class CosigningError(LogError):
    """Too few witnesses cosigned; the older checkpoint stays, and the log tries again."""


class FetchError(LedgerError):
    """No whole answer came."""


class StateError(LedgerError):
    """The monitor's state folder is damaged, in use, or of another version."""


class OtherVersionError(StateError):
    """The state folder was written by another version of this program."""


class EvidenceFileError(LedgerError):
    """A file of evidence is outside its format."""


class ReportError(LedgerError):
    """The audit report cannot be made, or does not reproduce."""


class ExportError(LedgerError):
    """The exported folder is damaged or incomplete."""


class TrustError(LedgerError):
    """No trusted key vouches for this evidence."""


class SplitViewError(TrustError):
    """The log shows two histories."""


class RolledBackError(TrustError):
    """The log shows less than was verified before."""


class StaleLogError(TrustError):
    """The log's witnesses saw its newest checkpoint too long ago."""


class WitnessError(LedgerError):
    """The witness does not cosign.

    Attributes:
        status: the HTTP status of C2SP tlog-witness that says why.
        size: with 409, the size that was cosigned last.
    """

    def __init__(self, status: int, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.size = size


class WorkerError(LedgerError):
    """A check did not end.

    Attributes:
        task: number of the task that was due.
    """

    def __init__(self, task: int, message: str) -> None:
        super().__init__(message)
        self.task = task
