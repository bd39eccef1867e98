"""How a verdict is told to a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ledger.audit.text import clean, iso, money
from ledger.finding import Finding
from ledger.verdict import INCOMPLETE, SOUND, STRUCTURE, TAMPERED, UNTRUSTED, Verdict

VERDICTS = {
    SOUND: "SOUND: everything that this export opens was checked, and it holds.",
    STRUCTURE: "STRUCTURE HOLDS: hashes, tiles, root and chain. Nothing else was looked at.",
    TAMPERED: "TAMPERED: this export contains what is changed, forged or against the rules.",
    INCOMPLETE: "INCOMPLETE: nothing was found false, but evidence is missing.",
    UNTRUSTED: "TRUST NOT MET: no key from outside the folder vouches for this export.",
}
NO_KEY = (
    "No key was given, so this cannot be called sound: whoever forges a folder signs it with a",
    "key of their own and puts that key inside. Ask someone other than the sender for the log's",
    "verifier key, compare its fingerprint with the one above, and run again with --key.",
)


def summary(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as one JSON object."""
    return asdict(verdict) | {"exit_code": verdict.exit_code}


def head(verdict: Verdict) -> Iterator[str]:
    """Yield the verdict and what it is about."""
    yield VERDICTS[verdict.status]
    yield ""
    yield f"log:     {clean(verdict.origin) or 'unknown'}"
    yield f"size:    {verdict.size} entries"
    yield f"root:    {verdict.root or 'unknown'}"
    whose = "the key you gave" if verdict.key_given else "the folder's own claim"
    whose = f"follows from {whose}" if verdict.key_changes else whose
    yield f"log key: {verdict.key_fingerprint or 'unknown'} ({whose})"
    yield from _key_changes(verdict)
    yield f"scope:   {clean(verdict.scope) or 'unknown'}"
    if not verdict.key_given:
        yield ""
        yield from NO_KEY


def _key_changes(verdict: Verdict) -> Iterator[str]:
    """Yield when the log's key was changed, and by which key."""
    for change in verdict.key_changes:
        when = "" if change["time"] is None else f", the last of {iso(change['time'])}"
        who = "the old key" if change["by"] == "key" else "a recovery key"
        yield f"         changed after {change['size']} entries{when}, by {who}"
        yield f"         from {change['old']} to {change['new']}"


def counted(checked: Mapping[str, int]) -> Iterator[str]:
    """Yield how many of each thing were checked."""
    for name, number in checked.items():
        if name == "settled_cents":
            yield f"{money(number)} settled"
        else:
            yield f"{number} {name}{'' if name.endswith('s') or number == 1 else 's'}"


def findings(title: str, items: Sequence[Finding]) -> Iterator[str]:
    """Yield findings below a title; nothing where there is none."""
    if items:
        yield ""
        yield f"{title}:"
        for item in items:
            yield f"  {clean(item.where)}: {item.code}: {clean(item.message)}"
