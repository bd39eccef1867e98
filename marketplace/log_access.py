"""Who may read the statement behind a log entry.

The public log shows kind, time, references and a salted commitment. A statement is opened to those
whom it names as parties: `*` is every participant, an asset stands for its provider, a job for its
researcher, the providers of its assets and the holders of the key that its result is under.
Auditors and the operator read everything.
"""

from __future__ import annotations

from ledger.history import History
from ledger.ids import parse_id
from ledger.statements import Asset, Job, Statement
from marketplace.participants.access import Caller
from privacy.paillier import named_holders


def may_read(caller: Caller, statement: Statement, history: History) -> bool:
    """Whether a caller may see a statement and its salt."""
    if not caller.scopes:
        return False
    if caller.sees_all or "*" in statement.parties():
        return True
    # A job does not name its key's holders as parties; they read it as they read what is about it.
    held = named_holders(statement.encryption_key) if isinstance(statement, Job) else frozenset()
    return caller.id in readers(statement, history) | held


def readers(statement: Statement, history: History) -> frozenset[str]:
    """Return the participants that a statement's parties stand for; `*` stands for itself."""
    found: set[str] = set()
    for party in statement.parties():
        found |= _participants(party, history)
    return frozenset(found)


def _participants(party: str, history: History) -> set[str]:
    if party == "*" or parse_id(party)[0] == "participant":
        return {party}
    logged = history.by_id.get(party)
    # A refusal may name a job that nobody logged; then there is nobody to add.
    if logged is None:
        return set()
    statement = logged.statement
    if isinstance(statement, Asset):
        return {statement.provider}
    if isinstance(statement, Job):
        providers = {history.get(asset, Asset).provider for asset in statement.assets}
        return {statement.researcher} | providers | named_holders(statement.encryption_key)
    return set()
