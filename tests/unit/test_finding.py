"""A report's words for what was refused, and how much of it is kept."""

import pytest

from ledger.errors import LedgerError, RuleError, SignatureError, StatementError
from ledger.finding import Finding, Report


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuleError("wrong_price", "dearer"), "wrong_price"),
        (SignatureError("dearer"), "bad_signature"),
        (StatementError("dearer"), "malformed_statement"),
    ],
)
def test_a_refused_statement_is_named_by_why(error: LedgerError, code: str):
    report = Report()
    report.find_error("entry 7", error, (7,))
    assert report.findings == [Finding(code, "entry 7", "dearer", (7,))]


def test_a_report_keeps_as_much_as_anybody_reads():
    report, other = Report(limit=2), Report()
    for number in range(3):
        assert report.full == (number >= 2)
        report.find("damaged", f"entry {number}", "x")
        other.miss("missing_file", f"entry {number}", "x")
    report.add(other)
    assert [item.where for item in report.findings] == ["entry 0", "entry 1"]
    assert [item.where for item in report.missing] == ["entry 0", "entry 1"]
