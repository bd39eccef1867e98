"""What a verifier reports: findings, which are false, and missing things, which are unknown.

Decides how grave each is, how many of them are kept and how an error becomes one. The words are
listed in FORMATS.md, section "Findings".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ledger.errors import LedgerError, RuleError, SignatureError

MAX_FINDINGS = 100
"""Most findings, and most missing things, of one verdict, unless its reader asks for more."""


GRAVE, SERIOUS, MINOR = "grave", "serious", "minor"
"""Grave: evidence was forged, omitted or contradicts itself. Serious: a rule of the market was
broken in the open. Minor: something is late or unclear, and nothing shows that it is worse."""

_SERIOUS = frozenset(
    {
        "agreement_mismatch",
        "backdated",
        "duplicate_statement",
        "expired_grant",
        "grant_mismatch",
        "measurement_invalid",
        "not_owner",
        "outside_terms",
        "over_quota",
        "overspent_budget",
        "settlement_mismatch",
        "shred_too_early",
        "too_many_rounds",
        "wrong_fee",
        "wrong_price",
        "wrong_role",
        "wrong_valuation",
    }
)
_MINOR = frozenset({"time_goes_back", "unfinished_job", "unreleased_job", "unsettled_job"})


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: the fixed word.
        where: the file, the entry, the line of a journal or the party.
        message: one sentence for people.
        entries: indexes of the entries that prove it.
    """

    code: str
    where: str
    message: str
    entries: tuple[int, ...] = ()

    @property
    def severity(self) -> str:
        """`grave`, `serious` or `minor`."""
        if self.code in _MINOR:
            return MINOR
        return SERIOUS if self.code in _SERIOUS else GRAVE


@dataclass
class Report:
    """What was found while something was checked, and how much was checked.

    Attributes:
        limit: most findings, and most missing things, that are kept.
    """

    findings: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    limit: int = MAX_FINDINGS

    @property
    def full(self) -> bool:
        """Whether so much is wrong already that nobody would read more."""
        return len(self.findings) >= self.limit

    def find(self, code: str, where: str, message: str, entries: tuple[int, ...] = ()) -> None:
        """Report something false; beyond the limit it is dropped."""
        self._keep(self.findings, [Finding(code, where, message, entries)])

    def miss(self, code: str, where: str, message: str, entries: tuple[int, ...] = ()) -> None:
        """Report something missing; beyond the limit it is dropped."""
        self._keep(self.missing, [Finding(code, where, message, entries)])

    def find_error(self, where: str, error: LedgerError, entries: tuple[int, ...] = ()) -> None:
        """Report a statement that was refused."""
        if isinstance(error, RuleError):
            self.find(error.code, where, str(error), entries)
        elif isinstance(error, SignatureError):
            self.find("bad_signature", where, str(error), entries)
        else:
            self.find("malformed_statement", where, str(error), entries)

    def add(self, other: Report) -> None:
        """Take over what another check reported."""
        self._keep(self.findings, other.findings)
        self._keep(self.missing, other.missing)
        self.checked.update(other.checked)

    def _keep(self, findings: list[Finding], more: list[Finding]) -> None:
        findings.extend(more[: max(0, self.limit - len(findings))])
