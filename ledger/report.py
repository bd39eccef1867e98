"""The audit report: what was checked and found, signed by the auditor, for machines to read.

    payload = payload_of(subject, made=1767225631000)
    data = sign(payload, auditor_key)
    open_report(data, auditor_key.verify_key)["verdict"]["status"]

Decides what stands in a report; the page that people read is made from it and holds no more. Two
auditors of one export, with the same evidence, write the same report but for the time of making and
the signature. Format: FORMATS.md, section "Audit report".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ledger.errors import ReportError, StatementError
from ledger.evidence import PLANTER, Piece
from ledger.finding import Finding
from ledger.history import History
from ledger.keys import SigningKey, VerifyKey
from ledger.manifest import CLOSED, ERASED, OPENED, SEALED
from ledger.reconcile import Reconciliation
from ledger.report_checks import kind_in, table
from ledger.report_limits import LIMITS
from ledger.standing import reconciled
from ledger.statements import Asset, Participant, Rotation, Schedule, Shred, envelope
from ledger.trust import Policy, Trusted
from ledger.verdict import Verdict

TYPE = envelope.payload_type("audit-report")
MAX_REPORT = envelope.MAX_ENVELOPE + 1
"""Longest report that is read, bytes."""

MAX_ROWS = 500
"""Most agreements, and most assets, that have a row of their own; the others are summed up."""

MAX_NUMBERS = 200
"""Most missing epochs that are listed one by one for an asset."""


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Attributes:
        kind: `export` or `state`.
        digest: of the export's manifest, or of the state's checkpoint.
        signed: the signed checkpoint with its cosignatures.
        policy: whom the auditor trusts; None where no key was given.
        verdict: of the verifier or the monitor, reconciliation included.
        history: what the log tells.
        state_of: for an entry, `opened`, `sealed` (enclosed under a view key), `erased` or
            `closed`.
        result: of the reconciliation.
        evidence: what else the auditor had.
        given: how many canaries and roster keys there were.
        options: names of the arguments that gave evidence besides the folder.
    """

    kind: str
    digest: str
    signed: bytes
    policy: Policy | None
    verdict: Verdict
    history: History
    state_of: Callable[[int], str]
    result: Reconciliation
    trusted: Trusted | None = None
    evidence: Sequence[Piece] = ()
    given: Mapping[str, int] = field(default_factory=dict)
    options: Sequence[str] = ()


def sign(payload: dict[str, Any], key: SigningKey) -> bytes:
    """Return the report as the auditor's signed envelope, one line of canonical JSON.

    Raises:
        ReportError: it is longer than a report may be.
    """
    data = envelope.sign(TYPE, payload, key)
    if len(data) > envelope.MAX_ENVELOPE:
        raise ReportError(
            f"the report has {len(data)} bytes, at most {envelope.MAX_ENVELOPE} are read"
        )
    return data + b"\n"


def open_report(data: bytes, key: VerifyKey) -> dict[str, Any]:
    """Return what a report says, only if this auditor signed it.

    Raises:
        StatementError: no report.
        SignatureError: changed, or signed by somebody else.
    """
    if not data.endswith(b"\n"):
        raise StatementError("a report ends in a newline")
    return envelope.open_(data.removesuffix(b"\n"), TYPE, key)


def payload_of(subject: Subject, *, auditor: VerifyKey, made: int) -> dict[str, Any]:
    """Return the report's contents as JSON values.

    Args:
        subject: what it is about.
        auditor: whose report it is.
        made: Unix milliseconds.
    """
    verdict, history = subject.verdict, subject.history
    by_kind = disclosure(subject)
    checked = _checked(subject, sum(row["opened"] for row in by_kind))
    kind_of = kind_in(history)
    return {
        "assumptions": [{"name": name, "text": text} for name, text in LIMITS],
        "auditor": {"fingerprint": auditor.fingerprint, "key": auditor.text, "name": auditor.name},
        "checked": dict(sorted(verdict.checked.items())),
        "checks": list(table(checked, verdict.findings, verdict.missing, kind_of)),
        "checkpoint": _checkpoint(subject),
        "disclosure": by_kind,
        "epochs": _epochs(subject),
        "erasures": list(_erasures(history)),
        "evidence": [
            {"digest": item.digest, "length": item.length, "name": item.name}
            for item in subject.evidence
        ],
        "findings": [_finding(item) for item in verdict.findings],
        "key_changes": _key_changes(subject),
        "log": {
            "fingerprint": verdict.key_fingerprint,
            "key_given": verdict.key_given,
            "keys": [_key(key) for key in subject.policy.logs] if subject.policy else [],
            "origin": verdict.origin,
            "root": verdict.root,
            "size": verdict.size,
        },
        "made": made,
        "missing": [_finding(item) for item in verdict.missing],
        "money": _money(subject.result),
        "participants": verdict.participants,
        "period": _period(history),
        "policy": None if subject.policy is None else subject.policy.text(),
        "reproduce": _reproduce(subject),
        "source": {
            "created": verdict.created or None,
            "digest": subject.digest,
            "kind": subject.kind,
            "scope": verdict.scope,
        },
        "verdict": {
            "exit_code": verdict.exit_code,
            "freshness": verdict.freshness,
            "status": verdict.status,
            "unchecked": verdict.unchecked,
        },
    }


def _checked(subject: Subject, opened: int) -> dict[str, int]:
    """Return the counts that the table of checks is made from."""
    verdict = subject.verdict
    return {
        "checkpoints": int(subject.trusted is not None),
        **verdict.checked,
        **reconciled(subject.result),
        "opened": opened,
        "closes": sum(item.closed for item in subject.result.epochs),
        "shredded": len(subject.history.shredded),
        **subject.given,
    }


def _finding(item: Finding) -> dict[str, Any]:
    return {
        "code": item.code,
        "entries": list(item.entries) or _entry(item.where),
        "message": item.message,
        "severity": item.severity,
        "where": item.where,
    }


def _entry(where: str) -> list[int]:
    word, _, number = where.partition(" ")
    return [int(number)] if word == "entry" and number.isdecimal() else []


def _key_changes(subject: Subject) -> dict[str, Any]:
    """Return the changes of the log's key, and those of participants and nodes."""
    rows = list(_rotations(subject.history))
    return {
        "log": subject.verdict.key_changes,
        "others": max(0, len(rows) - MAX_ROWS),
        "parties": rows[:MAX_ROWS],
    }


def _rotations(history: History) -> Iterator[dict[str, Any]]:
    now: dict[str, str] = {}
    for logged in history.by_index.values():
        # Asked first: a recalled history reads a statement when somebody looks at it.
        changes = logged.id.startswith("rotation:") and logged.id not in history.broken
        rotation = logged.statement if changes else None
        if isinstance(rotation, Rotation):
            old = now.get(rotation.subject) or _enrolled_key(history, rotation.subject)
            now[rotation.subject] = rotation.new_key
            yield {
                "by": rotation.by,
                "entry": logged.index,
                "name": _name(history, rotation.subject),
                "new": VerifyKey.from_text(rotation.new_key).fingerprint,
                "of": "node" if rotation.of_node else "participant",
                "old": None if old is None else VerifyKey.from_text(old).fingerprint,
                "time": logged.time,
            }


def _enrolled_key(history: History, subject: str) -> str | None:
    """Return the first key of a participant or node; None where its entry stayed sealed."""
    logged = history.by_id.get(subject)
    statement = None if logged is None else logged.statement
    if isinstance(statement, Asset):
        return statement.node_key
    return statement.key if isinstance(statement, Participant) else None


def _key(key: VerifyKey) -> dict[str, str]:
    return {"fingerprint": key.fingerprint, "key": key.text}


def _checkpoint(subject: Subject) -> dict[str, Any] | None:
    if subject.trusted is None:
        return None
    trusted, policy = subject.trusted, subject.policy
    return {
        "note": subject.signed.decode(),
        "quorum": policy.quorum if policy else "none",
        "root": trusted.checkpoint.root.hex(),
        "size": trusted.checkpoint.size,
        "witnessed_at": trusted.witnessed_at,
        "witnesses": [{"name": name, "time": time} for name, time in trusted.witnesses],
    }


def _period(history: History) -> dict[str, int] | None:
    if not history.entries:
        return None
    return {"first": history.entries[0].time, "last": history.entries[-1].time}


def _reproduce(subject: Subject) -> dict[str, str]:
    what = "FOLDER" if subject.kind == "export" else "STATE"
    policy = subject.policy
    if policy is None:
        trust = ""
    elif policy == Policy.of(*policy.logs[:1]):
        trust = f" --key {policy.logs[0].text}"
    else:
        trust = " --policy POLICY"
    given = "".join(f" --{name} {'ID' if name == PLANTER else 'FILE'}" for name in subject.options)
    command = f"rongshu audit report {what}{trust}{given} --sign-with AUDITOR.key --out DIR"
    return {"command": command, "digest": subject.digest}


# What is opened, sealed and erased.


def disclosure(subject: Subject) -> list[dict[str, Any]]:
    """Return for each kind how many entries there are, and how many of them were open."""
    states: dict[str, Counter[str]] = {}
    for index, entry in enumerate(subject.history.entries):
        states.setdefault(entry.kind, Counter())[subject.state_of(index)] += 1
    return [
        {
            "closed": found[CLOSED],
            "enclosed": found[SEALED],
            "entries": found.total(),
            "erased": found[ERASED],
            "kind": kind,
            "opened": found[OPENED],
        }
        for kind, found in sorted(states.items())
    ]


def _erasures(history: History) -> Iterator[dict[str, Any]]:
    said = (history.by_index[index] for index in sorted(set(history.shredded.values())))
    found = ((item.index, item.statement) for item in said if isinstance(item.statement, Shred))
    for index, shred in found:
        yield {
            "cause": shred.cause,
            "count": len(shred.entries),
            "entry": index,
            "kind": shred.erased_kind,
        }


# Money, and epochs.


def _money(result: Reconciliation) -> dict[str, Any]:
    accounts = result.accounts
    rows = [
        {
            "agreement": item.logged.id,
            "asset": item.agreement.asset,
            "billed_cents": item.billed_cents,
            "due_cents": item.due_cents,
            "entry": item.index,
            "fee_cents": item.fee_cents,
            "provider": item.agreement.provider,
            "researcher": item.agreement.researcher,
            "share_cents": item.share_cents,
            "stages": dict(sorted(item.stages.items())),
            "uses": item.agreement.terms.uses,
        }
        for item in islice(accounts.agreements.values(), MAX_ROWS)
    ]
    return {
        "agreements": rows,
        "balance_cents": sum(accounts.postings.values()),
        "others": max(0, len(accounts.agreements) - MAX_ROWS),
        "totals": dict(sorted(accounts.totals.items())),
    }


def _epochs(subject: Subject) -> dict[str, Any] | None:
    history = subject.history
    schedule = history.schedule
    if not isinstance(schedule, Schedule):
        return None
    rows = [
        {
            "asset": item.asset,
            "closed": item.closed,
            "due": item.due,
            "first": item.first,
            "missing": list(item.missing[:MAX_NUMBERS]),
            "missing_count": len(item.missing),
            "name": _name(history, item.asset),
        }
        for item in subject.result.epochs
    ]
    return {
        "assets": rows[:MAX_ROWS],
        "ended": schedule.ended(history.size),
        "epoch_entries": schedule.epoch_entries,
        "grace_entries": schedule.grace_entries,
        "indexed": len(history.use_indexes),
        "others": max(0, len(rows) - MAX_ROWS),
        "overdue": schedule.overdue(history.size),
    }


def _name(history: History, statement_id: str) -> str:
    logged = history.by_id.get(statement_id)
    named = None if logged is None else logged.statement
    return named.name if isinstance(named, Participant | Asset) else statement_id
