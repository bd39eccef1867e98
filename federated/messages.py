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
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self, get_args

from federated.errors import MessageError
from ledger.encoding import b64decode, b64encode, canonical, parse, sha256_text
from ledger.errors import EncodingError

MAX_BODY: Final = 1 << 26
"""Longest body in bytes; a million words in base64 need 11 MB."""

FINISH_STATES: Final = ("completed", "failed")

_MAX_TEXT = 256
_COMMITMENT_BYTES = 32
_WORD_BYTES = 8
# A word, not a sentence: free text in a refusal would be a way out for data.
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")


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
class _Form:
    """How one field is written to JSON and read back; `read` raises ValueError with the reason."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise ValueError(f"must be text of 1 to {_MAX_TEXT} characters")
    return value


def _text_or_empty(value: Any) -> str:
    return "" if value == "" else _text(value)


def _reason(value: Any) -> str:
    if not isinstance(value, str) or not _REASON.fullmatch(value):
        raise ValueError("must be one word of a-z, 0-9 and _")
    return value


def _finish_state(value: Any) -> str:
    if value not in FINISH_STATES:
        raise ValueError(f"must be one of {', '.join(FINISH_STATES)}")
    return str(value)


def _count_from(least: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        # bool is an int in Python, and true is not 1 in JSON.
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"must be an integer, at least {least}")
        return value

    return read


def _cohort(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("must be a list of asset ids")
    names = tuple(_text(item) for item in value)
    if list(names) != sorted(set(names)):
        raise ValueError("must name each asset once, in ascending order")
    return names


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - one kind of error for every form
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or not value:
        raise ValueError("must be base64 of at least one byte")
    try:
        return b64decode(value)
    except EncodingError as error:
        raise ValueError(str(error)) from None


def _words(value: Any) -> bytes:
    data = _bytes(value)
    if len(data) % _WORD_BYTES:
        raise ValueError("must be base64 of whole 64-bit words")
    return data


def _commitment(value: Any) -> bytes:
    data = _bytes(value)
    if len(data) != _COMMITMENT_BYTES:
        raise ValueError(f"must be base64 of {_COMMITMENT_BYTES} bytes")
    return data


def _bytes_list(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of base64 texts")
    return tuple(_bytes(item) for item in value)


def _bytes_by_name(value: Any) -> dict[str, bytes]:
    return {_text(name): _bytes(item) for name, item in _object(value).items()}


def _or_none(form: _Form) -> _Form:
    return _Form(
        lambda value: None if value is None else form.write(value),
        lambda value: None if value is None else form.read(value),
    )


def _same(value: Any) -> Any:
    return value


_TEXT = {"form": _Form(_same, _text)}
_TEXT_OR_EMPTY = {"form": _Form(_same, _text_or_empty)}
_WORD = {"form": _Form(_same, _reason)}
_STATE = {"form": _Form(_same, _finish_state)}
_ORDINAL = {"form": _Form(_same, _count_from(1))}
_COUNT = {"form": _Form(_same, _count_from(0))}
_COHORT = {"form": _Form(list, _cohort)}
_OBJECT = {"form": _Form(dict, _object)}
_BLOB = {"form": _Form(b64encode, _bytes)}
_COMMITMENT = {"form": _Form(b64encode, _commitment)}
_BLOB_OR_NONE = {"form": _or_none(_BLOB["form"])}
_WORDS_OR_NONE = {"form": _or_none(_Form(b64encode, _words))}
_BLOBS_OR_NONE = {"form": _or_none(_Form(lambda items: [b64encode(i) for i in items], _bytes_list))}
_BLOBS_BY_NAME = {
    "form": _Form(lambda items: {k: b64encode(v) for k, v in items.items()}, _bytes_by_name)
}


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
        forms = {item.name: item.metadata["form"] for item in dataclasses.fields(cls)}
        keys = set(value) - {"type"}
        if keys != set(forms):
            missing = sorted(set(forms) - keys)
            raise MessageError(
                f"{cls.type}: lacks {', '.join(missing) or 'nothing'}, "
                f"has {len(keys - set(forms))} unknown keys"
            )
        found: dict[str, Any] = {}
        for name, form in forms.items():
            try:
                found[name] = form.read(value[name])
            except ValueError as error:
                raise MessageError(f"{cls.type}: {name} {error}") from None
        return cls(**found)


@dataclass(frozen=True)
class _Asked(_Body):
    """Where a request stands: in which round of which attempt at which job, from 1."""

    job: str = field(metadata=_TEXT)
    attempt: int = field(metadata=_ORDINAL)
    round: int = field(metadata=_ORDINAL)


@dataclass(frozen=True)
class _Said(_Body):
    """Where a reply stands, and whose it is."""

    asset: str = field(metadata=_TEXT)
    job: str = field(metadata=_TEXT)
    attempt: int = field(metadata=_ORDINAL)
    round: int = field(metadata=_ORDINAL)


@dataclass(frozen=True)
class KeysRequest(_Asked):
    """Asks a node to check its evidence, to reserve the use and to send its first mask key.

    Attributes:
        cohort: ids of all assets whose contributions will be summed, ascending.
        evidence: where the node finds its proofs; not trusted, so free of form.
    """

    type: ClassVar[str] = "keys-request/v1"
    cohort: tuple[str, ...] = field(metadata=_COHORT)
    evidence: Mapping[str, Any] = field(metadata=_OBJECT)


@dataclass(frozen=True)
class KeysReply(_Body):
    """A node's signed mask key for round 1: it has seen proof and reserved the use."""

    type: ClassVar[str] = "keys-reply/v1"
    asset: str = field(metadata=_TEXT)
    mask_key: bytes = field(metadata=_BLOB)


@dataclass(frozen=True)
class SharesRequest(_Asked):
    """Asks a node to deal shares of its secrets for a round to everybody whose key is here.

    Attributes:
        mask_keys: each asset's signed keys for this round; the same for each node.
    """

    type: ClassVar[str] = "shares-request/v1"
    mask_keys: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)


@dataclass(frozen=True)
class SharesReply(_Said):
    """One sealed pair of shares for each other party; only that party can open it.

    Attributes:
        boxes: by receiver (`privacy.sealed_shares`).
    """

    type: ClassVar[str] = "shares-reply/v1"
    boxes: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)


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
    first: int = field(metadata=_ORDINAL)
    question: Mapping[str, Any] = field(metadata=_OBJECT)
    mask_keys: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)


@dataclass(frozen=True)
class Contribution(_Said):
    """One node's masked, or masked and encrypted, answer to one round.

    Attributes:
        words: masked 64-bit words, each little-endian, in the order of the question's layout.
        ciphertexts: encryptions of masked values instead, for an encrypted task.
        seed_commitment: 32 bytes by which a seed that others put together can be checked.
        next_mask_key: the node's signed keys for the following round; they say what it answered.

    Raises:
        MessageError: both words and ciphertexts, or neither.
    """

    type: ClassVar[str] = "contribution/v3"
    words: bytes | None = field(metadata=_WORDS_OR_NONE)
    ciphertexts: tuple[bytes, ...] | None = field(metadata=_BLOBS_OR_NONE)
    seed_commitment: bytes = field(metadata=_COMMITMENT)
    next_mask_key: bytes = field(metadata=_BLOB)

    def __post_init__(self) -> None:
        if (self.words is None) == (self.ciphertexts is None):
            raise MessageError(f"{self.type}: needs either words or ciphertexts")


@dataclass(frozen=True)
class SurvivorsRequest(_Asked):
    """Says that somebody dropped out of a round, and asks the others to sign who they are.

    Attributes:
        survivors: ids of the assets whose contributions will be summed, ascending.
    """

    type: ClassVar[str] = "survivors-request/v2"
    survivors: tuple[str, ...] = field(metadata=_COHORT)


@dataclass(frozen=True)
class SurvivorsReply(_Said):
    """A node's signed list of survivors."""

    type: ClassVar[str] = "survivors-reply/v2"
    signed: bytes = field(metadata=_BLOB)


@dataclass(frozen=True)
class UnmaskRequest(_Asked):
    """Asks a survivor to reveal what takes the masks off the sum, and shows that all agree on it.

    Attributes:
        lists: by asset, the survivors' signed lists; empty where nobody dropped out.
        boxes: by sender, what the others dealt to this node for this round.
        mask_keys: the survivors' signed keys for the following round, to deal shares for it.
    """

    type: ClassVar[str] = "unmask-request/v2"
    lists: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)
    boxes: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)
    mask_keys: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)


@dataclass(frozen=True)
class UnmaskReply(_Said):
    """One share for each party: of a survivor's seed, of a dropped party's mask key; never both.

    Attributes:
        shares: by their owner.
        boxes: shares of this node's own secrets for the following round, by receiver.
    """

    type: ClassVar[str] = "unmask-reply/v2"
    shares: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)
    boxes: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)


@dataclass(frozen=True)
class FinishRequest(_Body):
    """Asks a node to close its reservation and to send its receipt.

    Attributes:
        rounds: rounds that the coordinator collected in full.
        state: `completed`, or `failed` where the job ends without a result.
    """

    type: ClassVar[str] = "finish-request/v1"
    job: str = field(metadata=_TEXT)
    attempt: int = field(metadata=_ORDINAL)
    rounds: int = field(metadata=_COUNT)
    state: str = field(metadata=_STATE)


@dataclass(frozen=True)
class FinishReply(_Body):
    """A node's signed receipt (a `receipt` statement in its envelope)."""

    type: ClassVar[str] = "finish-reply/v1"
    receipt: bytes = field(metadata=_BLOB)


@dataclass(frozen=True)
class Refusal(_Body):
    """A node that will not compute, in one word, with the receipt that says so if it made one."""

    type: ClassVar[str] = "refusal/v1"
    job: str = field(metadata=_TEXT)
    asset: str = field(metadata=_TEXT)
    reason: str = field(metadata=_WORD)
    receipt: bytes | None = field(metadata=_BLOB_OR_NONE)


@dataclass(frozen=True)
class Failure(_Body):
    """A node that tried and could not, in one word.

    Job and asset are empty where the node broke down before it knew them.
    """

    type: ClassVar[str] = "failure/v1"
    job: str = field(metadata=_TEXT_OR_EMPTY)
    asset: str = field(metadata=_TEXT_OR_EMPTY)
    reason: str = field(metadata=_WORD)


Request = (
    KeysRequest | SharesRequest | RoundRequest | SurvivorsRequest | UnmaskRequest | FinishRequest
)
Answer = KeysReply | SharesReply | Contribution | SurvivorsReply | UnmaskReply | FinishReply
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
