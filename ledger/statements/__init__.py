"""Facts that parties sign: one file per kind, the registry lists them."""

from ledger.statements.agreement import Agreement
from ledger.statements.asset import Asset, Column, Measurement, Quality, Valuation, quality_score
from ledger.statements.grant import Grant
from ledger.statements.job import Job
from ledger.statements.offer import Offer
from ledger.statements.participant import Participant
from ledger.statements.receipt import (
    FAILURE_REASONS,
    REFUSAL_REASONS,
    Contribution,
    JournalPosition,
    Receipt,
)
from ledger.statements.registry import KINDS, Unverified, read
from ledger.statements.release import Release, Summand
from ledger.statements.revocation import Revocation
from ledger.statements.settlement import Line, Posting, Settlement, postings
from ledger.statements.statement import Author, Statement

__all__ = [
    "FAILURE_REASONS",
    "KINDS",
    "REFUSAL_REASONS",
    "Agreement",
    "Asset",
    "Author",
    "Column",
    "Contribution",
    "Grant",
    "Job",
    "JournalPosition",
    "Line",
    "Measurement",
    "Offer",
    "Participant",
    "Posting",
    "Quality",
    "Receipt",
    "Release",
    "Revocation",
    "Settlement",
    "Statement",
    "Summand",
    "Unverified",
    "Valuation",
    "postings",
    "quality_score",
    "read",
]
