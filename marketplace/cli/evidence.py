"""What may go along with an export besides the log: nodes' journals and tag keys.

A journal names each job on an asset, and a tag key finds the asset in every index of uses: so both
go only into an export in which everything is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ledger.errors import LedgerError
from ledger.history import History
from ledger.journal import read_journal
from ledger.statements import TaggedAsset
from ledger.use_index import write_tag_keys
from marketplace.cli.arguments import ArgumentError


def journals(history: History, files: Iterable[Path]) -> list[bytes]:
    """Read journals and return their bytes, each verified with its node's key.

    Args:
        history: the log that is exported.
        files: as `rongshu node journal` wrote them.

    Raises:
        ArgumentError: a file is no journal of a node in this log.
    """
    found = []
    for path in files:
        try:
            data = path.read_bytes()
            journal = read_journal(data)
            journal.verify(history.node_key(journal.asset))
        except (OSError, LedgerError) as error:
            raise ArgumentError(f"--journal: {path}: {error}") from error
        found.append(data)
    return found


def tag_keys(history: History, keys: Mapping[str, bytes]) -> bytes:
    """Return the file of tag keys.

    Keys that no asset committed to, which the operator drew for itself, prove nothing to anybody
    and are left out.
    """
    return write_tag_keys({asset: key for asset, key in keys.items() if _is_tagged(history, asset)})


def _is_tagged(history: History, asset: str) -> bool:
    logged = history.by_id.get(asset)
    return logged is not None and isinstance(logged.statement, TaggedAsset)
