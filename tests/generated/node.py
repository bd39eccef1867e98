"""A provider's node in a generated history: its journal, and what its next close must say."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.encoding import sha256_text
from ledger.journal import (
    END_TYPE,
    FINISH,
    HEADING,
    LAUNCH,
    JournalEnd,
    JournalLine,
    first_head,
    next_head,
    read_journal,
    write_journal,
)
from ledger.keys import SigningKey
from ledger.statements import envelope
from ledger.use_index import commit
from tests.drafts import key_of
from tests.generated.book import encode


@dataclass(eq=False)
class Party:
    """An organisation: its name, its present key and its id."""

    name: str
    key: SigningKey
    id: str = ""


@dataclass(eq=False)
class Node:
    """The guard of one asset.

    Attributes:
        owner: the provider.
        uses: indexes of its receipts with contributions, as a verifier counts them.
        since: kind and state of each line since the last close.
        closed: id of the last close, and the line and epoch where it ended.
    """

    owner: Party
    key: SigningKey
    asset: str = ""
    index: int = 0
    uses: list[int] = field(default_factory=list)
    since: list[tuple[str, str]] = field(default_factory=list)
    closed: tuple[str, int, int] | None = None
    line: int = 0
    head: str = field(default_factory=first_head)
    grants: list[str] = field(default_factory=list)
    spool: io.BufferedRandom | None = None

    @property
    def tag_key(self) -> bytes:
        return hashlib.sha256(b"tag key of " + self.owner.name.encode()).digest()

    @property
    def tag_commitment(self) -> str:
        return commit(self.tag_key)

    def open_spool(self, folder: Path) -> None:
        self.spool = (folder / f"journal of {self.key.name.replace('/', ' ')}").open("w+b")

    def write(self, time: int, kind: str, body: dict[str, Any]) -> None:
        """Append a line to the journal."""
        self.line += 1
        line = {"body": body, "kind": kind, "sequence": self.line, "time": time}
        text = encode(line | {"previous": self.head}).encode()
        self.head = "sha256:" + hashlib.sha256(b"rongshu/journal/v1\0" + text).hexdigest()
        self.since.append((kind, str(body.get("state", ""))))
        if self.spool is not None:
            self.spool.write(encode(line | {"head": self.head}).encode() + b"\n")

    def journal(self, now: int) -> bytes:
        """The journal as an auditor gets it."""
        if self.spool is None:
            return b""
        self.spool.seek(0)
        lines = self.spool.read()
        self.spool.seek(0, 2)
        end = JournalEnd(self.asset, self.line, self.head, now)
        signed = envelope.sign(END_TYPE, end.payload(), self.key)
        return HEADING.encode() + b"\n" + lines + signed + b"\n"

    def counts(self, skipped: int = 0) -> dict[str, int]:
        """What the lines since the last close count, the first ones left out."""
        lines = self.since[skipped:]
        return {
            "completed": lines.count((FINISH, "completed")),
            "failed": lines.count((FINISH, "failed")),
            "launched": sum(kind == LAUNCH for kind, _ in lines),
            "refused": lines.count((FINISH, "refused")),
        }


def rewritten(data: bytes, key: SigningKey, lines: list[JournalLine], now: int) -> bytes:
    """Another journal of the same node, chained and signed as if it were the true one."""
    head, chained = first_head(), []
    for number, line in enumerate(lines, start=1):
        head = next_head(head, number, line.time, line.kind, line.body)
        chained.append(JournalLine(number, line.time, line.kind, line.body, head))
    return write_journal(read_journal(data).asset, chained, key, now=now)


def party(name: str) -> Party:
    return Party(name, key_of(name))


def digest_of(*words: object) -> str:
    return sha256_text(" ".join(map(str, words)).encode())
