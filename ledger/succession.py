r"""How a log changes its key: the old key's last word names the new one.

    rongshu/log-succession/v1
    rongshu.example/log
    18
    2iJdLqU34Kx3dISbDuYkFq7Jh/Z2tz4hikXITRiwMcs=
    rongshu.example/log+d77453b4+AR…
    rongshu.example/log+08b5a9d1+AZ…

    — rongshu.example/log 13RTtL…
    — rongshu.example/log CLWp0d…

A signed note: heading, the tree head at which the keys change, old key, new key. It is signed by
the new key and by the old one, or in its place by a recovery key that the verifier was given
beforehand. The old key signs up to that head, the new key from it on, both of them this very root.
So history stays one, and whoever steals a retired key can sign no size beyond it.

Decides which key may sign which sizes. Does not decide who is told: a verifier that never sees the
note goes on trusting the old key. What a thief of the old key can still do is therefore:

- before the succession is signed, everything that the log can: only witnesses limit it;
- afterwards, to a verifier that has not seen it, the same; so auditors are handed successions along
  with every export, and keep them;
- to a verifier that has seen it, sign other trees of sizes *up to* the head. Witnesses, retained
  proofs and the head's own root, to which the whole tree is compared, catch that;
- sign a rival succession. Whoever sees both refuses both, unless a recovery key signed one of them:
  that one stands. So keep a recovery key apart from the log's, and hand it out with the log's.

Who holds the recovery key of a log can name its next key alone, at any time: it lies in a safe, and
its name is the log's, so that it speaks for no other.

Format: FORMATS.md, section "Succession".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ledger import note
from ledger.checkpoint import Checkpoint, parse
from ledger.errors import InvalidKeyError, NoteError, SplitViewError, TrustError
from ledger.keys import SigningKey, VerifyKey

HEADING = "rongshu/log-succession/v1"
MAX_SUCCESSIONS = 100
"""Most successions that are looked at for one log."""
MAX_NOTE = 1 << 14
"""Longest succession in a list, bytes; one with three signatures and usual names has 700."""
MAX_LIST = 1 << 21
"""Longest list, as `write_list` writes it: every note of it at its longest, and some escapes."""
SUCCESSIONS_PATH = "/v1/log/successions"
"""Where a service shows the list of its log."""


@dataclass(frozen=True)
class Succession:
    """One change of a log's key.

    Attributes:
        head: the tree at which the keys change; both keys stand for it.
        old: signs trees up to the head, and no larger ones.
        new: signs the head, and larger trees.

    Raises:
        NoteError: the keys are the same, or not both of the log that the head is of.
    """

    head: Checkpoint
    old: VerifyKey
    new: VerifyKey

    def __post_init__(self) -> None:
        if self.head.extensions:
            raise NoteError("the head of a succession has three lines, no more")
        for key in (self.old, self.new):
            if key.name != self.head.origin:
                raise NoteError(
                    f"succession of {self.head.origin[:80]!r} names a key of {key.name[:80]!r}"
                )
        if self.old.public == self.new.public:
            raise NoteError(f"succession of {self.head.origin[:80]!r} from a key to itself")

    def text(self) -> str:
        """Write the succession as the text of a note."""
        return f"{HEADING}\n{self.head.text()}{self.old.text}\n{self.new.text}\n"

    def sign(self, new: SigningKey, by: SigningKey, *also: SigningKey) -> bytes:
        """Return the succession as a signed note.

        Args:
            new: the new key, which thereby shows that it exists and agrees.
            by: the old key, or a recovery key that verifiers have been given.
            also: the other of them, where both are at hand: it is believed by whoever knows either.

        Raises:
            NoteError: `new` is not the key that is named, or signs for itself.
        """
        if new.verify_key != self.new or self.new in [key.verify_key for key in (by, *also)]:
            raise NoteError(
                "a succession is signed by the new key, and by the old or a recovery key"
            )
        return note.sign(self.text(), [by, *also, new])


@dataclass(frozen=True)
class Tenure:
    """The sizes that one key of a log may sign.

    Attributes:
        key: the key.
        first: the head it took over at; None for a key that the verifier knew from the start.
        last: the head it was retired at; None while it signs.
        successor: the key that followed it; None while it signs.
        recovered: whether a recovery key named its successor.
    """

    key: VerifyKey
    first: Checkpoint | None = None
    last: Checkpoint | None = None
    successor: VerifyKey | None = None
    recovered: bool = False

    def check(self, checkpoint: Checkpoint) -> None:
        """Return only if this key may have signed such a checkpoint.

        Raises:
            TrustError: it was retired before, or was not yet in charge.
            SplitViewError: it signs another history than the one the keys changed in.
        """
        name, size = self.key.name, checkpoint.size
        if self.last is not None and size > self.last.size:
            raise TrustError(
                f"the key {self.key.key_id.hex()} of {name!r} was retired at {self.last.size} "
                f"entries and cannot vouch for {size}: it may be stolen"
            )
        if self.first is not None and size < self.first.size:
            raise TrustError(
                f"the key {self.key.key_id.hex()} of {name!r} took over at {self.first.size} "
                f"entries and cannot vouch for {size}"
            )
        for head in (self.first, self.last):
            if head is not None and head.size == size and head.root != checkpoint.root:
                raise SplitViewError(
                    f"the log {name!r} changed its key at {size} entries under another root than "
                    "this checkpoint's: two histories"
                )


def split_unverified(data: bytes) -> Succession:
    """Read a succession without checking any signature: it may be anybody's.

    Raises:
        NoteError: not one succession.
    """
    text, _ = note.split_unverified(data)
    lines = text.split("\n")
    # Heading, three lines of head, two keys, and nothing after the last newline.
    if len(lines) != 7 or lines[0] != HEADING:
        raise NoteError(f"a succession is {HEADING}, three lines of tree head and two keys")
    head = parse("".join(f"{line}\n" for line in lines[1:4]))
    try:
        return Succession(head, VerifyKey.from_text(lines[4]), VerifyKey.from_text(lines[5]))
    except InvalidKeyError as error:
        raise NoteError(f"succession of {head.origin[:80]!r}: {error}") from None


def open_succession(data: bytes, recovery: Sequence[VerifyKey] = ()) -> tuple[Succession, bool]:
    """Return a succession that its keys signed, and whether a recovery key did.

    Whether the old key deserves trust is for the caller: `tenures` follows it from trusted ones.

    Args:
        data: the signed note.
        recovery: keys that may sign in the old key's place, each for the log whose name it has.

    Raises:
        NoteError: not one succession.
        SignatureError: a signature by one of the keys does not verify.
        TrustError: the new key did not sign, or neither the old nor a recovery key did.
    """
    succession = split_unverified(data)
    own = [key for key in recovery if key.name == succession.head.origin]
    signed = note.open_note(data, [succession.old, succession.new, *own]).verified
    recovered = any(key in own for key in signed)
    if succession.new not in signed or not (recovered or succession.old in signed):
        raise TrustError(
            f"the succession of {succession.head.origin[:80]!r} at {succession.head.size} entries "
            "lacks the signature of its new key, or of its old or a recovery key that you trust"
        )
    return succession, recovered


def tenures(
    keys: Sequence[VerifyKey], notes: Iterable[bytes], recovery: Sequence[VerifyKey] = ()
) -> tuple[Tenure, ...]:
    """Follow successions from trusted keys and return what each key may sign.

    Successions of keys that are not trusted are passed over, like signatures of unknown keys.

    Args:
        keys: keys that are trusted already.
        notes: signed successions in any order; the same one may come twice.
        recovery: keys that may sign in a retired key's place, for the log whose name they have.

    Raises:
        NoteError: a note is no succession, or there are too many.
        SignatureError: a signature by one of its keys does not verify.
        TrustError: a trusted key has a succession that no trusted key signed, or two of them; or
            they lead in a circle, go back, or contradict each other.
    """
    offered = list(dict.fromkeys(notes))
    if len(offered) > MAX_SUCCESSIONS:
        raise NoteError(f"{len(offered)} successions, at most {MAX_SUCCESSIONS} are looked at")
    by_old: dict[VerifyKey, list[bytes]] = {}
    for data in offered:
        by_old.setdefault(split_unverified(data).old, []).append(data)
    found = {key: Tenure(key) for key in keys}
    next_key: dict[VerifyKey, VerifyKey] = {}
    waiting = list(found)
    while waiting:
        old = waiting.pop()
        chosen = _chosen(by_old.pop(old, []), recovery)
        if chosen is None:
            continue
        succession, recovered = chosen
        found[old] = replace(
            found[old], last=succession.head, successor=succession.new, recovered=recovered
        )
        next_key[old] = succession.new
        new = found.get(succession.new)
        if new is None:
            waiting.append(succession.new)
        elif new.first is not None:
            raise TrustError(f"two keys of {old.name!r} are followed by the same new key")
        found[succession.new] = replace(new or Tenure(succession.new), first=succession.head)
    for tenure in found.values():
        _check_order(tenure)
        _check_line(tenure.key, next_key)
    return tuple(found.values())


def lineage(key: VerifyKey, notes: Iterable[bytes]) -> tuple[Tenure, ...]:
    """Return what a log's own keys signed: the one that signs now, and those before it.

    For the log itself, which trusts the key that it holds and follows it back. Nobody else does:
    a verifier follows keys forward (`tenures`).

    Args:
        key: the key that the log signs with.
        notes: its successions, in any order.

    Raises:
        NoteError: one is no succession.
        SignatureError, TrustError: one that leads to the key is not signed by its new key.
        TrustError: the key was retired.
    """
    by_new: dict[VerifyKey, bytes] = {}
    for data in notes:
        succession = split_unverified(data)
        if succession.old == key:
            raise TrustError(
                f"this key of {key.name!r} was retired at {succession.head.size} entries: the log "
                f"goes on under {succession.new.text}"
            )
        by_new[succession.new] = data
    found = [Tenure(key)]
    while found[-1].key in by_new:
        data = by_new.pop(found[-1].key)
        note.open_note(data, [found[-1].key])
        before = split_unverified(data)
        found[-1] = replace(found[-1], first=before.head)
        found.append(Tenure(before.old, last=before.head))
    return tuple(found)


def changes(known: Sequence[Tenure], key: VerifyKey) -> tuple[Tenure, ...]:
    """Return the retired keys that led to a key, the oldest first; none where it was there first.

    Args:
        known: as `tenures` returns them.
        key: one of them.
    """
    before = {tenure.successor: tenure for tenure in known if tenure.successor is not None}
    found: list[Tenure] = []
    at = before.get(key)
    while at is not None:
        found.append(at)
        at = before.get(at.key)
    return tuple(reversed(found))


def write_list(notes: Iterable[bytes]) -> bytes:
    """Write signed successions as one JSON object, as a service shows them."""
    texts = [data.decode("utf-8") for data in notes]
    return json.dumps({"successions": texts}, ensure_ascii=False).encode()


def read_list(data: bytes) -> tuple[bytes, ...]:
    """Read what `write_list` wrote; nothing of it is verified.

    Raises:
        NoteError: it is no such list, or too long.
    """
    if len(data) > MAX_LIST:
        raise NoteError(f"a list of successions of {len(data)} bytes, more than {MAX_LIST}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise NoteError("the list of successions is no JSON") from None
    listed = value.get("successions") if isinstance(value, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise NoteError("the list of successions is no JSON object with a list of texts")
    if len(listed) > MAX_SUCCESSIONS:
        raise NoteError(f"{len(listed)} successions, at most {MAX_SUCCESSIONS} are looked at")
    notes = tuple(item.encode("utf-8", "surrogatepass") for item in listed)
    if any(len(item) > MAX_NOTE for item in notes):
        raise NoteError(f"a succession is longer than {MAX_NOTE} bytes")
    return notes


def signer(
    checkpoint: Checkpoint, signed: Sequence[VerifyKey], known: Sequence[Tenure]
) -> VerifyKey:
    """Return a key that signed a checkpoint in its log's name, and might sign this size.

    Args:
        checkpoint: the tree head that was signed.
        signed: keys whose signatures on it were verified, at least one.
        known: what each key may sign; every key of `signed` is there.

    Raises:
        NoteError: the checkpoint is of another log than the keys that signed it.
        TrustError: none of its log's keys that signed may vouch for this size and root.
    """
    own = [tenure for tenure in known if tenure.key in signed]
    named = [tenure for tenure in own if tenure.key.name == checkpoint.origin]
    if not named:
        # One key signing for two origins could present one log as the other.
        raise NoteError(
            f"checkpoint origin {checkpoint.origin[:80]!r} is not the name of the key that signed "
            f"it, {own[0].key.name[:80]!r}"
        )
    refused = []
    for tenure in named:
        try:
            tenure.check(checkpoint)
        except TrustError as error:
            refused.append(error)
        else:
            return tenure.key
    raise refused[0]


def _chosen(
    notes: Sequence[bytes], recovery: Sequence[VerifyKey]
) -> tuple[Succession, bool] | None:
    """Return the one succession of a key; one by a recovery key overrules the key's own."""
    opened = [open_succession(data, recovery) for data in notes]
    by_recovery = {succession for succession, recovered in opened if recovered}
    chosen = by_recovery or {succession for succession, _ in opened}
    if len(chosen) > 1:
        origin = next(iter(chosen)).head.origin
        raise TrustError(
            f"two successions of one key of {origin[:80]!r}: one of them is a thief's. Ask the "
            "operator for one that a recovery key signed, or for the new key in person"
        )
    return next(((succession, bool(by_recovery)) for succession in chosen), None)


def _check_order(tenure: Tenure) -> None:
    if tenure.first is None or tenure.last is None:
        return
    if tenure.last.size < tenure.first.size:
        raise TrustError(
            f"a key of {tenure.key.name!r} took over at {tenure.first.size} entries and was "
            f"retired at {tenure.last.size}"
        )
    tenure.check(tenure.last)


def _check_line(key: VerifyKey, next_key: Mapping[VerifyKey, VerifyKey]) -> None:
    # No two keys are followed by the same one, so a walk either ends or comes back to its start.
    at = next_key.get(key)
    while at is not None:
        if at == key:
            raise TrustError(f"the successions of {key.name!r} lead in a circle")
        at = next_key.get(at)
