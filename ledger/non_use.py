"""A proof that an asset was not used in an epoch: one text file, verified offline.

    rongshu/non-use/v1
    {"asset":"asset:42d7…","epoch":1,"key":"…","neighbours":[{"index":0,"proof":[…],"tag":"…"}],…}
    {"entry":{…},"opening":{…},"proof":["…"]}
    …

    rongshu.example/log
    31
    …

    >>> shown = verify(Path("asset.non-use").read_bytes(), Policy.of(key))
    >>> shown.asset.name, shown.number, shown.start, shown.stop
    ('heart disease, hospital1.example', 1, 8, 16)

Decides whether the log says, in the words of the operator and of the asset's own node, that no
receipt with contributions of the asset was logged among the entries of one epoch. The operator:
two tags stand next to each other in the sorted index of the epoch, and the asset's own would stand
between them. The node: its close of the epoch counts no use.

Does not decide whether the index is the right one: whoever reads all of the log recomputes it
(`ledger.reconcile`). An operator and a node who lie together are found there, not here; nor does
one file show that nobody's key was replaced or revoked before it signed. A node that computed and
logged nothing leaves no trace in any log.

The file shows the key of the asset's tag in this one epoch, so its reader can tell the tag in other
proofs of the same epoch, and the neighbours' tags, which mean nothing without their keys. It tells
nothing of other epochs. The node's close shows how many jobs it launched, ended and refused, and
the head of its journal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ledger import checkpoint as checkpoints
from ledger import note, proof_file, rules
from ledger.encoding import b64decode, b64encode, canonical, parse
from ledger.entry import Entry, Opening
from ledger.errors import (
    EncodingError,
    EntryError,
    EvidenceError,
    LedgerError,
    ProofError,
    SignatureError,
)
from ledger.history import History, Logged
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, verify_inclusion
from ledger.proof import MAX_HASHES
from ledger.statements import (
    Asset,
    Epoch,
    Participant,
    Rotation,
    Schedule,
    Statement,
    TaggedAsset,
    UseIndex,
)
from ledger.trust import Policy, Trusted
from ledger.use_index import (
    KEY_BYTES,
    TAG_BYTES,
    EpochKey,
    disclose,
    root_of,
    sorted_tags,
    tag,
    tree_of,
)

HEADING = "rongshu/non-use/v1"
MAX_BYTES = 20_000_000
MAX_EVIDENCE = 256
_CLAIM = {"asset", "epoch", "key", "neighbours", "path"}

S = TypeVar("S", bound=Statement)


@dataclass(frozen=True)
class Neighbour:
    """One tag of the index with its place.

    Attributes:
        index: position among the sorted tags.
        tag: 32 bytes.
        hashes: inclusion proof in the tree of the index.
    """

    index: int
    tag: bytes
    hashes: tuple[bytes, ...]


@dataclass(frozen=True)
class Exhibit:
    """One entry with its statement and its place in the log."""

    entry: bytes
    opening: Opening
    hashes: tuple[bytes, ...]


@dataclass(frozen=True)
class NonUse:
    """That an asset was not used in an epoch: verified.

    Attributes:
        trusted: the checkpoint, who signed it and which witnesses saw it.
        asset_id: the asset.
        asset: its data card.
        provider: who lists it.
        number: which epoch; it covers the log's entries `start` to `stop`, exclusive.
        used: how many other assets were used in it.
        close: what the asset's node says of the epoch.
    """

    trusted: Trusted
    asset_id: str
    asset: Asset
    provider: Participant
    number: int
    start: int
    stop: int
    used: int
    close: Epoch


@dataclass(frozen=True)
class Proof:
    """A proof as the file holds it, not verified."""

    asset: str
    key: EpochKey = field(repr=False)
    neighbours: tuple[Neighbour, ...]
    evidence: tuple[Exhibit, ...]
    checkpoint: bytes

    def to_bytes(self) -> bytes:
        """Write the proof as a file.

        Raises:
            ProofError: it would be longer than `MAX_BYTES`.
        """
        claim = {
            "asset": self.asset,
            "epoch": self.key.number,
            "key": b64encode(self.key.key),
            "neighbours": [
                {"index": item.index, "proof": _texts(item.hashes), "tag": b64encode(item.tag)}
                for item in self.neighbours
            ],
            "path": _texts(self.key.path),
        }
        lines = [canonical(claim)]
        lines += [
            canonical(
                {
                    "entry": parse(item.entry),
                    "opening": item.opening.to_json(),
                    "proof": _texts(item.hashes),
                }
            )
            for item in self.evidence
        ]
        return proof_file.write(HEADING, lines, self.checkpoint, MAX_BYTES)

    @classmethod
    def from_bytes(cls, data: bytes) -> Proof:
        """Read a proof strictly.

        Raises:
            ProofError: outside the format; the message names the line.
        """
        lines, checkpoint = proof_file.read(data, HEADING, MAX_BYTES)
        if not 2 < len(lines) <= MAX_EVIDENCE + 2:
            raise ProofError(f"the proof has {len(lines)} lines before its checkpoint")
        number = 2
        try:
            asset, key, neighbours = _claim(parse(lines[1]))
            evidence = []
            for number, line in enumerate(lines[2:], 3):  # noqa: B007
                evidence.append(_evidence(parse(line, limit=4 << 20)))
        except (EncodingError, EntryError, ProofError) as error:
            raise ProofError(f"line {number} of the proof: {error}") from error
        return cls(asset, key, neighbours, tuple(evidence), checkpoint)


def verify(data: bytes, policy: Policy, successions: Iterable[bytes] = ()) -> NonUse:
    """Return what is shown only if the proof shows it.

    Args:
        data: the proof.
        policy: the log's key and the witnesses, from elsewhere.
        successions: signed changes of the log's key.

    Raises:
        ProofError: malformed, or it does not show what it claims.
        NoteError, SignatureError, TrustError: as `Policy.open_checkpoint`.
    """
    proof = Proof.from_bytes(data)
    trusted = policy.open_checkpoint(proof.checkpoint, successions)
    history = _replayed(proof, trusted)
    index_entry, index = _only(history, UseIndex)
    close_entry, close = _only(history, Epoch)
    asset_entry, asset = _only(history, Asset)
    _, schedule = _only(history, Schedule)
    number = proof.key.number
    # A close is signed with its asset's node key, so it is of the one asset that is there.
    if {asset_entry.id, close.asset} != {proof.asset}:
        raise ProofError("the asset in the proof is another than it claims")
    if not isinstance(asset, TaggedAsset):
        raise ProofError("the asset commits to no tag key, so its absence cannot be shown")
    span = (number, schedule.start(number), schedule.start(number + 1))
    for what, found in (("index", index), ("close", close)):
        if (found.number, found.start, found.stop) != span:
            raise ProofError(f"the {what} in the proof is not of epoch {number}")
    if span[2] > min(index_entry.index, close_entry.index):
        raise ProofError(f"epoch {number} had not ended when it was closed or indexed")
    if close.uses:
        raise ProofError(f"the asset's node counts {close.uses} uses in epoch {number}")
    own = proof.key.verify(asset.tag_commitment).tag(proof.asset)
    _check_absent(own, proof.neighbours, index)
    return NonUse(
        trusted,
        proof.asset,
        asset,
        history.get(asset.provider, Participant),
        *span,
        index.tags,
        close,
    )


def make(
    history: History,
    asset: str,
    number: int,
    keys: Mapping[str, bytes],
    prove: Callable[[int], Exhibit],
    signed: bytes,
) -> Proof:
    """Prove that an asset was not used in an epoch.

    Args:
        history: what an export tells, verified; or the operator's own.
        asset: id of the asset.
        number: which epoch.
        keys: tag keys, by asset: its own, and those of all assets used in the epoch.
        prove: returns one entry with its opening and its inclusion proof under the checkpoint.
        signed: the checkpoint.

    Raises:
        ProofError: the asset was used, or the logged index is not that of the assets used.
        EvidenceError: something that the proof needs is not there.
        EncodingError: a key is malformed, or covers no such epoch.
    """
    if asset not in keys:
        raise EvidenceError("the tag key of this asset is not there")
    schedule = history.schedule
    if schedule is None:
        raise EvidenceError("this log has no schedule, so it has no epochs")
    listed = history.by_id.get(asset)
    if listed is None or not isinstance(listed.statement, Asset):
        raise EvidenceError("the asset is not among the opened entries")
    used = sorted(history.used_assets(schedule.start(number), schedule.start(number + 1)))
    if asset in used:
        raise ProofError(f"the asset was used in epoch {number}")
    lacking = [item for item in used if item not in keys]
    if lacking:
        raise EvidenceError(f"the tag keys of {len(lacking)} assets used in epoch {number} lack")
    index = _indexed(history, number)
    tags = sorted_tags(tag(keys[item], item, number) for item in used)
    if root_of(tags) != index.read_as(UseIndex).root:
        raise ProofError(f"the index of epoch {number} is not that of the assets used in it")
    size = checkpoints.parse(note.split_unverified(signed)[0]).size
    needed = sorted(_grounds(history, listed, number) | {index.index})
    if needed[-1] >= size:
        raise EvidenceError(f"the checkpoint covers {size} entries, the proof needs {needed[-1]}")
    own = disclose(keys[asset], number)
    return Proof(
        asset,
        own,
        _neighbours(tags, own.tag(asset)),
        tuple(prove(item) for item in needed),
        signed,
    )


def _replayed(proof: Proof, trusted: Trusted) -> History:
    """Return the statements in the proof, each in the log and signed by its authors."""
    history, head, last = History(), trusted.checkpoint, -1
    for item in proof.evidence:
        try:
            entry = Entry.from_bytes(item.entry)
            if entry.index <= last:
                raise ProofError("its evidence is not in the order of the log")
            leaf = leaf_hash(item.entry)
            verify_inclusion(leaf, entry.index, head.size, item.hashes, head.root)
            opened = item.opening.reveal(entry)
            logged = Logged(entry.index, entry.time, opened.id, opened.statement)
            rules.verify_authors(history, logged, opened)
        except SignatureError:
            raise
        except LedgerError as error:
            raise ProofError(f"the proof does not show what it claims: {error}") from error
        history.record(logged)
        history.take_effect(logged)
        last = entry.index
    return history


def _only(history: History, kind: type[S]) -> tuple[Logged, S]:
    found = [
        (logged, logged.statement)
        for logged in history.by_index.values()
        if isinstance(logged.statement, kind)
    ]
    if len(found) != 1:
        raise ProofError(f"the proof needs one {kind.kind}, it has {len(found)}")
    return found[0]


def _check_absent(own: bytes, neighbours: Sequence[Neighbour], index: UseIndex) -> None:
    """Return only if the index has no such tag."""
    size, root = index.tags, bytes.fromhex(index.root.partition(":")[2])
    for item in neighbours:
        verify_inclusion(leaf_hash(item.tag), item.index, size, item.hashes, root)
    below = [item for item in neighbours if item.tag < own]
    above = [item for item in neighbours if item.tag > own]
    holds = list(neighbours) == [*below, *above] and max(len(below), len(above)) <= 1
    # Where there is none below, the one above is the first of all, and the other way round.
    first = below[0].index + 1 if below else 0
    last = above[0].index if above else size
    holds = holds and first == last and (size > 0 or root == EMPTY_ROOT)
    if not holds:
        raise ProofError("the tags in the proof are not next to each other around the asset's own")


def _neighbours(tags: Sequence[bytes], own: bytes) -> tuple[Neighbour, ...]:
    tree, place = tree_of(tags), bisect_left(tags, own)
    return tuple(
        Neighbour(item, tags[item], tree.inclusion(item, len(tags)))
        for item in (place - 1, place)
        if 0 <= item < len(tags)
    )


def _indexed(history: History, number: int) -> Logged:
    for logged in history.use_indexes:
        if logged.read_as(UseIndex).number == number:
            return logged
    raise EvidenceError(f"epoch {number} is not indexed, or its index is not open to you")


def _grounds(history: History, listed: Logged, number: int) -> set[int]:
    """Return the entries that say who signs what, the schedule and the node's close."""
    asset = history.get(listed.id, Asset)
    closes = (
        logged
        for logged in history.closes.get(listed.id, ())
        if logged.read_as(Epoch).number == number
    )
    close = next(closes, None)
    if close is None:
        raise EvidenceError(f"the asset's node has not closed epoch {number}, or not in the open")
    operator = history.operator.id if history.operator is not None else ""
    subjects = {listed.id, asset.provider, operator}
    return {listed.index, close.index} | {
        logged.index
        for logged in history.by_index.values()
        if isinstance(logged.statement, Schedule)
        or (isinstance(logged.statement, Participant) and logged.id in subjects)
        or (isinstance(logged.statement, Rotation) and logged.statement.subject in subjects)
    }


def _claim(value: Any) -> tuple[str, EpochKey, tuple[Neighbour, ...]]:
    if not isinstance(value, dict) or set(value) != _CLAIM:
        raise ProofError("expected asset, epoch, key, neighbours and path, no more")
    listed = value["neighbours"]
    if not isinstance(value["asset"], str) or not isinstance(listed, list) or len(listed) > 2:
        raise ProofError("expected the id of an asset and at most two neighbours")
    key = EpochKey(_number(value["epoch"]), _bytes(value["key"], KEY_BYTES), _hashes(value["path"]))
    return value["asset"], key, tuple(_neighbour(item) for item in listed)


def _neighbour(value: Any) -> Neighbour:
    if not isinstance(value, dict) or set(value) != {"index", "proof", "tag"}:
        raise ProofError("a neighbour has index, proof and tag, no more")
    return Neighbour(
        _number(value["index"]), _bytes(value["tag"], TAG_BYTES), _hashes(value["proof"])
    )


def _evidence(value: Any) -> Exhibit:
    if not isinstance(value, dict) or set(value) != {"entry", "opening", "proof"}:
        raise ProofError("evidence has entry, opening and proof, no more")
    opening = Opening.from_json(value["opening"])
    return Exhibit(canonical(value["entry"]), opening, _hashes(value["proof"]))


def _hashes(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > MAX_HASHES:
        raise ProofError(f"expected at most {MAX_HASHES} hashes")
    return tuple(_bytes(item, HASH_BYTES) for item in value)


def _bytes(value: Any, length: int) -> bytes:
    if not isinstance(value, str) or len(data := b64decode(value)) != length:
        raise ProofError(f"expected base64 of {length} bytes")
    return data


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ProofError("expected a whole number from 0 up")
    return value


def _texts(hashes: Iterable[bytes]) -> list[str]:
    return [b64encode(item) for item in hashes]
