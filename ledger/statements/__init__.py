"""Facts that parties sign: one file per kind, the registry lists them."""

from ledger.statements.agreement import Agreement, BudgetedAgreement
from ledger.statements.asset import (
    Asset,
    Column,
    Measurement,
    Quality,
    TaggedAsset,
    Valuation,
    quality_score,
)
from ledger.statements.epoch import Counts, Epoch, JournalSpan
from ledger.statements.grant import Grant
from ledger.statements.job import Job
from ledger.statements.offer import Offer
from ledger.statements.participant import Participant
from ledger.statements.receipt import (
    FAILURE_REASONS,
    JOB_REASONS,
    LOG_REASONS,
    REFUSAL_REASONS,
    Contribution,
    JournalPosition,
    MeteredReceipt,
    Receipt,
)
from ledger.statements.registry import KINDS, Unverified, read
from ledger.statements.release import Release, Summand
from ledger.statements.revocation import Revocation
from ledger.statements.rotation import Rotation
from ledger.statements.schedule import Schedule
from ledger.statements.settlement import Line, Posting, Settlement, postings
from ledger.statements.shred import SHREDDABLE, Shred
from ledger.statements.statement import Author, Statement
from ledger.statements.use_index import UseIndex

__all__ = [
    "FAILURE_REASONS",
    "JOB_REASONS",
    "KINDS",
    "LOG_REASONS",
    "REFUSAL_REASONS",
    "SHREDDABLE",
    "Agreement",
    "Asset",
    "Author",
    "BudgetedAgreement",
    "Column",
    "Contribution",
    "Counts",
    "Epoch",
    "Grant",
    "Job",
    "JournalPosition",
    "JournalSpan",
    "Line",
    "Measurement",
    "MeteredReceipt",
    "Offer",
    "Participant",
    "Posting",
    "Quality",
    "Receipt",
    "Release",
    "Revocation",
    "Rotation",
    "Schedule",
    "Settlement",
    "Shred",
    "Statement",
    "Summand",
    "TaggedAsset",
    "Unverified",
    "UseIndex",
    "Valuation",
    "postings",
    "quality_score",
    "read",
]
