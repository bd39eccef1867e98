"""How a command over one piece of evidence ends: exit codes, and why it failed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from ledger.audit.arguments import complain
from ledger.audit.text import clean, reason
from ledger.errors import EvidenceError, LedgerError, TrustError
from ledger.trust import Trusted

HOLDS, FALSE, LACKING, UNTRUSTED = 0, 1, 2, 3

Codes = Sequence[tuple[type[Exception], int]]

PROOF_CODES: Codes = (
    (TrustError, UNTRUSTED),
    (EvidenceError, LACKING),
    (FileNotFoundError, LACKING),
    (LedgerError, FALSE),
)
"""Of the commands that make a proof or check one."""


def ended(arguments: argparse.Namespace, error: Exception, codes: Codes) -> int:
    """Tell why a command ended, and return the first exit code that its error has in the table."""
    for kind, code in codes:
        if isinstance(error, kind):
            return failed(arguments, code, error)
    return complain(clean(reason(error)))


def failed(arguments: argparse.Namespace, code: int, error: Exception) -> int:
    """Tell why, on standard error or as JSON, and return the exit code."""
    if arguments.json:
        sys.stdout.write(f"{json.dumps({'exit_code': code, 'message': reason(error)})}\n")
    else:
        sys.stderr.write(f"rongshu audit {arguments.what}: {clean(reason(error))}\n")
    return code


def vouched(trusted: Trusted) -> dict[str, Any]:
    """Return as JSON which checkpoint a proof that holds leads to, and who vouches for it."""
    return {
        "exit_code": HOLDS,
        "origin": trusted.checkpoint.origin,
        "size": trusted.checkpoint.size,
        "root": trusted.checkpoint.root.hex(),
        "key_fingerprint": trusted.key.fingerprint,
        "witnesses": [{"name": name, "time": time} for name, time in trusted.witnesses],
        "witnessed_at": trusted.witnessed_at,
    }
