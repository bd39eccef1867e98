"""What the coordinator and a node say to each other, as bytes.

Each message is one canonical-JSON body (RFC 8785) with a fixed type and fixed keys; anything else
is refused. Decides what a well-formed message is. Does not decide whether it fits the job: the
node's guard and `federated.rounds` do. Knows nothing of Flower, so that a buyer's client can read
kept contributions without it; `federated.records` puts a body into a Flower message. PROTOCOL.md
has an example of each.

    body = RoundRequest(job, attempt=1, round=1, question={...}, mask_keys={...}).to_bytes()
    request = read_request(body)
    digest = body_digest(body)              # what a receipt lists

What nodes sign for each other inside these bodies is in `federated.peers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self, get_args

from federated import forms
from federated.errors import MessageError
from ledger.encoding import canonical, parse, sha256_text
from ledger.errors import EncodingError

MAX_BODY: Final = 1 << 26
"""Longest body in bytes; a million words in base64 need 11 MB."""


@dataclass(frozen=True)
class Beside:
    """What came with a body, and is no part of it: no digest covers it.

    Attributes:
        checkpoint: the log's newest, signed; None where none came. Not verified.
        lease: the operator's word on who drives the attempt, signed; None where none came. Not
            verified.
        run: Flower's number for the run that the body came in; 0 where it came in none.
    """

    checkpoint: bytes | None = None
    lease: bytes | None = None
    run: int = 0


ALONE: Final = Beside()
"""Nothing came with the body."""


@dataclass(frozen=True)
class _Body:
    """One message; subclasses give its type and, in each field's metadata, how it is written."""

    type: ClassVar[str]

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON; `from_bytes` accepts these bytes and no other spelling.

        Raises:
            MessageError: a field is outside its form, so that no peer would accept it.
        """
        value: dict[str, Any] = {"type": self.type}
        for item in dataclasses.fields(self):
            value[item.name] = item.metadata["form"].write(getattr(self, item.name))
        try:
            data = canonical(value)
        except EncodingError as error:
            raise MessageError(f"{self.type}: {error}") from None
        self._from_value(value)
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read exactly what `to_bytes` writes.

        Raises:
            MessageError: not canonical, too long, of another type, a key missing or unknown, or a
                field outside its form. The message names the field, never its content.
        """
        return cls._from_value(_parse(data))

    @classmethod
    def _from_value(cls, value: dict[str, Any]) -> Self:
        if value["type"] != cls.type:
            raise MessageError(f"expected a message of type {cls.type}")
        known = {item.name: item.metadata["form"] for item in dataclasses.fields(cls)}
        keys = set(value) - {"type"}
        if keys != set(known):
            missing = sorted(set(known) - keys)
            raise MessageError(
                f"{cls.type}: lacks {', '.join(missing) or 'nothing'}, "
                f"has {len(keys - set(known))} unknown keys"
            )
        found: dict[str, Any] = {}
        for name, form in known.items():
            try:
                found[name] = form.read(value[name])
            except ValueError as error:
                raise MessageError(f"{cls.type}: {name} {error}") from None
        return cls(**found)


@dataclass(frozen=True)
class _Asked(_Body):
    """Where a request stands: in which round of which attempt at which job, from 1."""

    job: str = field(metadata=forms.TEXT)
    attempt: int = field(metadata=forms.ORDINAL)
    round: int = field(metadata=forms.ORDINAL)


@dataclass(frozen=True)
class _Said(_Body):
    """Where a reply stands, and whose it is."""

    asset: str = field(metadata=forms.TEXT)
    job: str = field(metadata=forms.TEXT)
    attempt: int = field(metadata=forms.ORDINAL)
    round: int = field(metadata=forms.ORDINAL)


@dataclass(frozen=True)
class KeysRequest(_Asked):
    """Asks a node to check its evidence, to reserve the use and to send its first key.

    Attributes:
        cohort: ids of all assets whose contributions will be summed, ascending.
        evidence: where the node finds its proofs; not trusted, so free of form.
    """

    type: ClassVar[str] = "keys-request/v1"
    cohort: tuple[str, ...] = field(metadata=forms.COHORT)
    evidence: Mapping[str, Any] = field(metadata=forms.OBJECT)


@dataclass(frozen=True)
class KeysReply(_Body):
    """A node's signed key for round 1: it has seen proof and reserved the use.

    Attributes:
        mask_key: its keys for the first sum, or its channel key where the nodes talk to each other.
    """

    type: ClassVar[str] = "keys-reply/v1"
    asset: str = field(metadata=forms.TEXT)
    mask_key: bytes = field(metadata=forms.BLOB)


@dataclass(frozen=True)
class SharesRequest(_Asked):
    """Asks a node to deal shares of its secrets for a round to everybody whose key is here.

    Attributes:
        mask_keys: each asset's signed keys for this round; the same for each node.
    """

    type: ClassVar[str] = "shares-request/v1"
    mask_keys: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)


@dataclass(frozen=True)
class SharesReply(_Said):
    """One sealed pair of shares for each other party; only that party can open it.

    Attributes:
        boxes: by receiver (`privacy.sealed_shares`).
    """

    type: ClassVar[str] = "shares-reply/v1"
    boxes: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)


@dataclass(frozen=True)
class RoundRequest(_Asked):
    """One question to everybody who dealt shares, byte for byte the same for each node.

    Attributes:
        first: the round in which the first question was asked of those who still take part; the
            questions before it count no more.
        question: the JSON of a `federated.plan.Question`.
        mask_keys: each asset's signed keys for this round.
    """

    type: ClassVar[str] = "round-request/v2"
    first: int = field(metadata=forms.ORDINAL)
    question: Mapping[str, Any] = field(metadata=forms.OBJECT)
    mask_keys: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)


@dataclass(frozen=True)
class Contribution(_Said):
    """One node's masked, or masked and encrypted, answer to one round.

    Attributes:
        words: masked 64-bit words, each little-endian, in the order of the question's layout.
        ciphertexts: encryptions of the masked words instead, packed, for an encrypted task.
        seed_commitment: 32 bytes by which a seed that others put together can be checked.
        next_mask_key: the node's signed keys for the following round; they say what it answered.

    Raises:
        MessageError: both words and ciphertexts, or neither.
    """

    type: ClassVar[str] = "contribution/v4"
    words: bytes | None = field(metadata=forms.WORDS_OR_NONE)
    ciphertexts: tuple[bytes, ...] | None = field(metadata=forms.BLOBS_OR_NONE)
    seed_commitment: bytes = field(metadata=forms.COMMITMENT)
    next_mask_key: bytes = field(metadata=forms.BLOB)

    def __post_init__(self) -> None:
        if (self.words is None) == (self.ciphertexts is None):
            raise MessageError(f"{self.type}: needs either words or ciphertexts")


@dataclass(frozen=True)
class RelayRequest(_Asked):
    """Hands a node what the others sent it in the round before, and asks what it sends next.

    Attributes:
        keys: in round 1 each asset's signed channel key; empty afterwards.
        parcels: by sender, sealed for this node; empty in round 1.
    """

    type: ClassVar[str] = "relay-request/v1"
    keys: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)
    parcels: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)


@dataclass(frozen=True)
class RelayReply(_Said):
    """What a node sends to others in one round, or that its part is over and what came of it.

    Attributes:
        parcels: by receiver, sealed for it (`federated.channel`).
        report: canonical JSON for the coordinator and the buyer; None while the node goes on.
    """

    type: ClassVar[str] = "relay-reply/v1"
    parcels: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)
    report: bytes | None = field(metadata=forms.BLOB_OR_NONE)


@dataclass(frozen=True)
class SurvivorsRequest(_Asked):
    """Says that somebody dropped out of a round, and asks the others to sign who they are.

    Attributes:
        survivors: ids of the assets whose contributions will be summed, ascending.
    """

    type: ClassVar[str] = "survivors-request/v2"
    survivors: tuple[str, ...] = field(metadata=forms.COHORT)


@dataclass(frozen=True)
class SurvivorsReply(_Said):
    """A node's signed list of survivors."""

    type: ClassVar[str] = "survivors-reply/v2"
    signed: bytes = field(metadata=forms.BLOB)


@dataclass(frozen=True)
class UnmaskRequest(_Asked):
    """Asks a survivor to reveal what takes the masks off the sum, and shows that all agree on it.

    Attributes:
        lists: by asset, the survivors' signed lists; empty where nobody dropped out.
        boxes: by sender, what the others dealt to this node for this round.
        mask_keys: the survivors' signed keys for the following round, to deal shares for it.
    """

    type: ClassVar[str] = "unmask-request/v2"
    lists: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)
    boxes: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)
    mask_keys: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)


@dataclass(frozen=True)
class UnmaskReply(_Said):
    """One share for each party: of a survivor's seed, of a dropped party's mask key; never both.

    Attributes:
        shares: by their owner.
        boxes: shares of this node's own secrets for the following round, by receiver.
    """

    type: ClassVar[str] = "unmask-reply/v2"
    shares: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)
    boxes: Mapping[str, bytes] = field(metadata=forms.BLOBS_BY_NAME)


@dataclass(frozen=True)
class FinishRequest(_Body):
    """Asks a node to close its reservation and to send its receipt.

    Attributes:
        rounds: rounds that the coordinator collected in full.
        state: `completed`, or `failed` where the job ends without a result.
    """

    type: ClassVar[str] = "finish-request/v1"
    job: str = field(metadata=forms.TEXT)
    attempt: int = field(metadata=forms.ORDINAL)
    rounds: int = field(metadata=forms.COUNT)
    state: str = field(metadata=forms.STATE)


@dataclass(frozen=True)
class FinishReply(_Body):
    """A node's signed receipt (a `receipt` statement in its envelope)."""

    type: ClassVar[str] = "finish-reply/v1"
    receipt: bytes = field(metadata=forms.BLOB)


@dataclass(frozen=True)
class Refusal(_Body):
    """A node that will not compute, in one word, with the receipt that says so if it made one."""

    type: ClassVar[str] = "refusal/v1"
    job: str = field(metadata=forms.TEXT)
    asset: str = field(metadata=forms.TEXT)
    reason: str = field(metadata=forms.WORD)
    receipt: bytes | None = field(metadata=forms.BLOB_OR_NONE)


@dataclass(frozen=True)
class Failure(_Body):
    """A node that tried and could not, in one word.

    Job and asset are empty where the node broke down before it knew them.
    """

    type: ClassVar[str] = "failure/v1"
    job: str = field(metadata=forms.TEXT_OR_EMPTY)
    asset: str = field(metadata=forms.TEXT_OR_EMPTY)
    reason: str = field(metadata=forms.WORD)


Step = SharesRequest | RoundRequest | RelayRequest | SurvivorsRequest | UnmaskRequest
"""What is asked while an attempt is under way."""

Request = KeysRequest | Step | FinishRequest
Answer = (
    KeysReply | SharesReply | Contribution | RelayReply | SurvivorsReply | UnmaskReply | FinishReply
)
Reply = Answer | Refusal | Failure

_REQUESTS: dict[str, type[Request]] = {kind.type: kind for kind in get_args(Request)}
_REPLIES: dict[str, type[Reply]] = {kind.type: kind for kind in get_args(Reply)}


def read_request(data: bytes) -> Request:
    """Read any message that a coordinator may send.

    Raises:
        MessageError: anything else.
    """
    value = _parse(data)
    if value["type"] not in _REQUESTS:
        raise MessageError("not a request of a known type")
    return _REQUESTS[value["type"]]._from_value(value)  # noqa: SLF001 - same module


def read_reply(data: bytes) -> Reply:
    """Read any message that a node may send.

    Raises:
        MessageError: anything else.
    """
    value = _parse(data)
    if value["type"] not in _REPLIES:
        raise MessageError("not a reply of a known type")
    return _REPLIES[value["type"]]._from_value(value)  # noqa: SLF001 - same module


def body_digest(data: bytes) -> str:
    """Return the digest of a message as receipts and releases list it: `sha256:` and hex."""
    return sha256_text(data)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        value = parse(data, limit=MAX_BODY)
    except EncodingError as error:
        raise MessageError(f"a message is canonical JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise MessageError("a message is an object with a type")
    return value
