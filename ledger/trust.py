r"""Whom a verifier trusts: logs, witnesses, and how many of these must have seen a checkpoint.

    log rongshu.example/log+d77453b4+AR…
    witness north witness.example/north+1c7d7a33+BI…
    witness south witness.example/south+60f26dd7+Bq…
    witness west witness.example/west+5fd4f6a7+BK…
    group two-of-three 2 north south west
    quorum two-of-three

A policy is written as C2SP tlog-policy says. Decides whether a checkpoint is signed by a known log
and cosigned by a quorum of known witnesses. Does not decide what the log holds, or which time is
too long ago: it says since when a quorum vouches, and its caller has the clock.

    >>> policy = Policy.parse(Path("policy").read_bytes())     # or Policy.of(key)
    >>> trusted = policy.open_checkpoint(signed)
    >>> trusted.checkpoint.size, trusted.witnessed_at
    (18, 1767225618)

Signatures by unknown keys are ignored; one by a known log or a known witness that does not verify
spoils the checkpoint. A witness's key may be of Ed25519 (0x04) or ML-DSA-44 (0x06). A log that adds
an ML-DSA-44 line of its own is held to it by a `witness` line with that key in an `all` group: then
policies mean the same to every tool, and a checkpoint without the line meets no quorum.

One line more than C2SP knows: `recovery VKEY`, named as a log, is a key that may sign the
succession of that log's key in its place (`ledger.succession`). Another tool refuses such a policy
rather than read it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ledger import note
from ledger.checkpoint import Checkpoint
from ledger.checkpoint import parse as parse_checkpoint
from ledger.cosignature import verify_cosignature
from ledger.errors import InvalidKeyError, PolicyError, TrustError
from ledger.keys import CosignatureKey, VerifyKey
from ledger.quorum import MAX_ITEMS, NONE, Group, Names, Witness, check_token, seen_by
from ledger.succession import Tenure, signer, split_unverified, tenures

__all__ = ["MAX_BYTES", "MAX_ITEMS", "NONE", "Group", "Policy", "Trusted", "Witness"]

MAX_BYTES = 1_000_000
"""Longest policy that is read; 100 ML-DSA-44 keys take less than 200,000 bytes."""

_FORBIDDEN = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,2}")


@dataclass(frozen=True)
class Trusted:
    """A checkpoint that met a policy.

    Attributes:
        checkpoint: the tree head.
        key: the log's key that signed it.
        witnesses: name and time (Unix seconds) of every known witness that cosigned it, by name;
            a witness that cosigned it twice, with its later time.
        witnessed_at: the latest time from which on a whole quorum cosigned, Unix seconds; None
            where the policy asks for none. A witness may lie about its time; a quorum of them
            must, to move this one.
    """

    checkpoint: Checkpoint
    key: VerifyKey
    witnesses: tuple[tuple[str, int], ...] = ()
    witnessed_at: int | None = None


@dataclass(frozen=True)
class Policy:
    """What a checkpoint needs to be believed.

    Attributes:
        logs: keys of known logs; a checkpoint needs the signature of one, named as its origin.
        witnesses: known witnesses.
        groups: each after the ones it names.
        quorum: name of the witness or group that must have seen a checkpoint, or `NONE`.
        recovery: keys that may sign the succession of a log's key in its place; each is named as
            the log.
        urls: for a log, where to reach it.
        successions: signed changes of the logs' keys; added by `following`.

    Raises:
        PolicyError: a name or key stands twice, is unknown or malformed, a threshold is out of
            range, or there is more than `MAX_ITEMS` of something.
        NoteError, SignatureError, TrustError: as `following`, for successions.
    """

    logs: tuple[VerifyKey, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NONE
    recovery: tuple[VerifyKey, ...] = ()
    urls: tuple[tuple[VerifyKey, str], ...] = ()
    successions: tuple[bytes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        names = Names()
        for log in self.logs:
            names.add_log(log)
        for key in self.recovery:
            names.add_recovery(key)
        for witness in self.witnesses:
            names.add_witness(witness)
        for group in self.groups:
            names.add_group(group)
        names.check_quorum(self.quorum)
        origins = {key.name for key in self.logs}
        for key in self.recovery:
            if key.name not in origins:
                raise PolicyError(
                    f"the recovery key of {key.name[:80]!r} is of no log that the policy lists"
                )
        known = [key for key, _ in self.urls]
        if len(set(known)) != len(known) or not set(known) <= set(self.logs):
            raise PolicyError("the policy gives a URL twice, or for a log that it does not list")
        for _, url in self.urls:
            check_token(url, "the URL of a log")
        _ = self.tenures

    @cached_property
    def tenures(self) -> tuple[Tenure, ...]:
        """What each key may sign: those of `logs`, and those that follow from them."""
        return tenures(self.logs, self.successions, self.recovery)

    @classmethod
    def of(cls, *keys: VerifyKey) -> Policy:
        """Trust these logs, and ask for no witness."""
        return cls(keys)

    @classmethod
    def parse(cls, text: str | bytes) -> Policy:
        """Read a policy file.

        Raises:
            PolicyError: outside the format; the message names the line and what to do.
        """
        return _parse(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)

    def text(self) -> str:
        """Write the policy as a file; successions are kept in files of their own."""
        urls = dict(self.urls)
        lines = [f"log {key.text} {urls.get(key, '')}".rstrip(" ") for key in self.logs]
        lines += [f"recovery {key.text}" for key in self.recovery]
        lines += [
            f"witness {w.name} {w.key.text} {w.url or ''}".rstrip(" ") for w in self.witnesses
        ]
        for group in self.groups:
            count = "all" if group.threshold == len(group.members) else str(group.threshold)
            lines.append(f"group {group.name} {count} {' '.join(group.members)}")
        return "".join(f"{line}\n" for line in (*lines, f"quorum {self.quorum}"))

    def following(self, successions: Iterable[bytes]) -> Policy:
        """Return the policy that also trusts the successors of its logs' keys.

        Args:
            successions: signed notes (`ledger.succession`), in any order.

        Raises:
            NoteError: one of them is no succession.
            SignatureError: one is changed.
            TrustError: they do not follow from the keys of this policy, or contradict each other.
        """
        return replace(self, successions=(*self.successions, *successions))

    @property
    def followed(self) -> tuple[bytes, ...]:
        """The successions of keys that are trusted: those that a reader keeps, of any it is shown.

        A hostile log could fill a memory with those of keys that nobody knows.
        """
        keys = {tenure.key for tenure in self.tenures}
        return tuple(data for data in self.successions if split_unverified(data).old in keys)

    def heads(self, origin: str) -> dict[int, bytes]:
        """Return size and root of each tree at which a log's trusted keys changed."""
        heads = [tenure.last for tenure in self.tenures if tenure.last is not None]
        return {head.size: head.root for head in heads if head.origin == origin}

    def open_checkpoint(self, data: bytes, successions: Iterable[bytes] = ()) -> Trusted:
        """Return a checkpoint only if a known log signed it and a quorum of witnesses saw it.

        Args:
            data: the signed note with its cosignatures.
            successions: as for `following`; in addition to those this policy follows already.

        Raises:
            NoteError: the bytes are no checkpoint, or of another log than its key's.
            SignatureError: a known log or witness is named, and its signature does not verify.
            TrustError: no known log signed, its key may not sign this size, or the quorum is not
                met; the message says who is lacking.
            UnsupportedKeyError: a known witness cosigned with ML-DSA-44, unknown to the library.
        """
        added = tuple(successions)
        known = self.following(added).tenures if added else self.tenures
        opened = note.open_note(data, [tenure.key for tenure in known])
        checkpoint = parse_checkpoint(opened.text)
        key = signer(checkpoint, opened.verified, known)
        times = self._cosigned(opened)
        seen = seen_by(self.groups, times)
        if self.quorum not in seen:
            raise TrustError(self._lacking(seen, checkpoint))
        return Trusted(checkpoint, key, tuple(sorted(times.items())), self._witnessed_at(times))

    def _cosigned(self, opened: note.Note) -> dict[str, int]:
        """Return the time at which each known witness cosigned, by its name in the policy."""
        known = {(item.key.name, item.key.key_id): item for item in self.witnesses}
        times: dict[str, int] = {}
        for line in opened.signatures:
            witness = known.get((line.name, line.key_id))
            if witness is not None:
                time = verify_cosignature(opened.text, line, witness.key)
                times[witness.name] = max(time, times.get(witness.name, 0))
        return times

    def _witnessed_at(self, times: Mapping[str, int]) -> int | None:
        if self.quorum == NONE:
            return None
        for moment in sorted(set(times.values()), reverse=True):
            if self.quorum in seen_by(
                self.groups, (name for name, time in times.items() if time >= moment)
            ):
                return moment
        return None

    def _lacking(self, seen: set[str], checkpoint: Checkpoint) -> str:
        """Say how far from its quorum a checkpoint is, and whose cosignature would help."""
        groups = {group.name: group for group in self.groups}
        group = groups.get(self.quorum) or Group(self.quorum, 1, (self.quorum,))
        present = sum(member in seen for member in group.members)
        absent = [repr(item.name[:80]) for item in self.witnesses if item.name not in seen]
        return (
            f"the checkpoint of {checkpoint.size} entries is cosigned by {present} of the "
            f"{group.threshold} that the quorum {self.quorum[:80]!r} needs; not by "
            f"{', '.join(absent[:10])}{', …' if len(absent) > 10 else ''}"
        )


def _parse(data: bytes) -> Policy:
    if len(data) > MAX_BYTES:
        raise PolicyError(f"the policy has {len(data)} bytes, more than the {MAX_BYTES} allowed")
    match = _FORBIDDEN.search(data)
    if match is not None:
        where = data.count(b"\n", 0, match.start()) + 1
        raise PolicyError(f"line {where} of the policy holds the byte 0x{match[0].hex()}")
    *lines, rest = data.split(b"\n")
    if rest:
        raise PolicyError(f"line {len(lines) + 1} of the policy does not end in a newline")
    draft = _Draft()
    for number, line in enumerate(lines, start=1):
        try:
            draft.read(line)
        except (PolicyError, InvalidKeyError) as error:
            raise PolicyError(f"line {number} of the policy: {error}") from None
    if draft.quorum is None:
        raise PolicyError(
            "the policy has no quorum line; write `quorum none` to ask for no witness"
        )
    return Policy(
        tuple(draft.logs),
        tuple(draft.witnesses),
        tuple(draft.groups),
        draft.quorum,
        tuple(draft.recovery),
        tuple(draft.urls),
    )


class _Draft:
    """A policy while its lines are read."""

    def __init__(self) -> None:
        self.names = Names()
        self.logs: list[VerifyKey] = []
        self.recovery: list[VerifyKey] = []
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.urls: list[tuple[VerifyKey, str]] = []
        self.quorum: str | None = None

    def read(self, line: bytes) -> None:
        """Take in one line.

        Raises:
            PolicyError: outside the format.
            InvalidKeyError: a key that must not be used.
        """
        words = line.replace(b"\t", b" ").strip(b" ")
        if not words or words.startswith(b"#"):
            return
        try:
            keyword, *rest = [word.decode("utf-8") for word in words.split(b" ") if word]
        except UnicodeDecodeError:
            raise PolicyError("not UTF-8, which keys and names are written in here") from None
        readers = {
            "log": self._log,
            "recovery": self._recovery,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._quorum,
        }
        if keyword not in readers:
            raise PolicyError(
                f"{keyword[:80]!r} is none of log, witness, group, quorum and recovery"
            )
        readers[keyword](rest)

    def _log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise PolicyError("a log line reads: log VKEY [URL]")
        key = _log_key(words[0])
        self.names.add_log(key)
        self.logs.append(key)
        self.urls += [(key, url) for url in words[1:]]

    def _recovery(self, words: list[str]) -> None:
        if len(words) != 1:
            raise PolicyError("a recovery line reads: recovery VKEY")
        key = VerifyKey.from_text(words[0])
        self.names.add_recovery(key)
        self.recovery.append(key)

    def _witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise PolicyError("a witness line reads: witness NAME VKEY [URL]")
        key = CosignatureKey.from_text(words[1])
        witness = Witness(words[0], key, words[2] if words[2:] else None)
        self.names.add_witness(witness)
        self.witnesses.append(witness)

    def _group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise PolicyError("a group line reads: group NAME all|any|NUMBER MEMBER...")
        name, count, *members = words
        threshold = {"all": len(members), "any": 1}.get(count)
        if threshold is None:
            if not _THRESHOLD.fullmatch(count):
                raise PolicyError(f"{count[:80]!r} is none of all, any and a number from 1 up")
            threshold = int(count)
        group = Group(name, threshold, tuple(members))
        self.names.add_group(group)
        self.groups.append(group)

    def _quorum(self, words: list[str]) -> None:
        if len(words) != 1 or self.quorum is not None:
            raise PolicyError("a policy has one quorum line: quorum NAME")
        self.names.check_quorum(words[0])
        self.quorum = words[0]


def _log_key(text: str) -> VerifyKey:
    try:
        return VerifyKey.from_text(text)
    except InvalidKeyError as error:
        try:
            name = CosignatureKey.from_text(text).name
        except InvalidKeyError:
            raise error from None
    raise PolicyError(
        f"a log is known by its Ed25519 key (0x01). To ask for the ML-DSA-44 line of {name[:80]!r} "
        "too, list its key as a witness and put it into the quorum with `all`"
    )
