"""What the coordinator and a node say to each other, as bytes.

Each message is one canonical-JSON body (RFC 8785) with a fixed type and fixed keys; anything else
is refused. Decides what a well-formed message is. Does not decide whether it fits the job: the
node's guard and `federated.rounds` do. Knows nothing of Flower, so that a buyer's client can read
kept contributions without it; `federated.records` puts a body into a Flower message. PROTOCOL.md
has an example of each.

    body = RoundRequest(job, attempt=1, round=1, question={...}, mask_keys={...}).to_bytes()
    request = read_request(body)
    digest = body_digest(body)              # what a receipt lists

A mask key is a node's X25519 public key for one round, in an envelope that the node signed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

from federated.errors import MessageError, PeerKeyError
from ledger.encoding import b64decode, b64encode, canonical, digest, parse, sha256_text
from ledger.errors import EncodingError, SignatureError, StatementError
from ledger.keys import SigningKey, VerifyKey
from ledger.statements import envelope

MAX_BODY: Final = 1 << 26
"""Longest body in bytes; a million words in base64 need 11 MB."""

MASK_KEY_TYPE: Final = "application/vnd.rongshu.mask-key.v1+json"
COHORT_NAMESPACE: Final = "rongshu/cohort/v1"

FINISH_STATES: Final = ("completed", "failed")

_MAX_TEXT = 256
_PUBLIC_KEY_BYTES = 32
_WORD_BYTES = 8
# A word, not a sentence: free text in a refusal would be a way out for data.
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")


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
        type(self).from_bytes(data)
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
class KeysRequest(_Body):
    """Asks a node to check its evidence, to reserve the use and to send its first mask key.

    Attributes:
        job: id of the job statement.
        attempt: 1 for the first try of this job.
        round: the round that the key will serve, always 1 here.
        cohort: ids of all assets whose contributions will be summed, ascending.
        evidence: where the node finds its proofs; not trusted, so free of form.
    """

    type: ClassVar[str] = "keys-request/v1"
    job: str = field(metadata=_TEXT)
    attempt: int = field(metadata=_ORDINAL)
    round: int = field(metadata=_ORDINAL)
    cohort: tuple[str, ...] = field(metadata=_COHORT)
    evidence: Mapping[str, Any] = field(metadata=_OBJECT)


@dataclass(frozen=True)
class KeysReply(_Body):
    """A node's signed mask key for round 1: it has seen proof and reserved the use."""

    type: ClassVar[str] = "keys-reply/v1"
    asset: str = field(metadata=_TEXT)
    mask_key: bytes = field(metadata=_BLOB)


@dataclass(frozen=True)
class RoundRequest(_Body):
    """One question to the whole cohort, byte for byte the same for each node.

    Attributes:
        question: the JSON of a `federated.plan.Question`.
        mask_keys: each asset's signed mask key for this round.
    """

    type: ClassVar[str] = "round-request/v1"
    job: str = field(metadata=_TEXT)
    attempt: int = field(metadata=_ORDINAL)
    round: int = field(metadata=_ORDINAL)
    question: Mapping[str, Any] = field(metadata=_OBJECT)
    mask_keys: Mapping[str, bytes] = field(metadata=_BLOBS_BY_NAME)


@dataclass(frozen=True)
class Contribution(_Body):
    """One node's masked, or masked and encrypted, answer to one round.

    Attributes:
        words: masked 64-bit words, each little-endian, in the order of the question's layout.
        ciphertexts: encryptions of masked values instead, for an encrypted task.
        next_mask_key: the node's signed mask key for the following round.

    Raises:
        MessageError: both words and ciphertexts, or neither.
    """

    type: ClassVar[str] = "contribution/v1"
    asset: str = field(metadata=_TEXT)
    job: str = field(metadata=_TEXT)
    attempt: int = field(metadata=_ORDINAL)
    round: int = field(metadata=_ORDINAL)
    words: bytes | None = field(metadata=_WORDS_OR_NONE)
    ciphertexts: tuple[bytes, ...] | None = field(metadata=_BLOBS_OR_NONE)
    next_mask_key: bytes = field(metadata=_BLOB)

    def __post_init__(self) -> None:
        if (self.words is None) == (self.ciphertexts is None):
            raise MessageError(f"{self.type}: needs either words or ciphertexts")


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


Request = KeysRequest | RoundRequest | FinishRequest
Reply = KeysReply | Contribution | FinishReply | Refusal | Failure

_REQUESTS: dict[str, type[Request]] = {
    kind.type: kind for kind in (KeysRequest, RoundRequest, FinishRequest)
}
_REPLIES: dict[str, type[Reply]] = {
    kind.type: kind for kind in (KeysReply, Contribution, FinishReply, Refusal, Failure)
}


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


@dataclass(frozen=True)
class PublicMaskKey:
    """A node's public X25519 key for exactly one round of one attempt with one cohort.

    Attributes:
        cohort_digest: `cohort_digest` of all assets that mask with each other.
        public: 32 bytes.
    """

    asset: str
    job: str
    attempt: int
    round: int
    cohort_digest: str
    public: bytes

    def sign(self, key: SigningKey) -> bytes:
        """Return the envelope that tells the cohort this key, signed by the node's key."""
        payload = dataclasses.asdict(self) | {"public": b64encode(self.public)}
        return envelope.sign(MASK_KEY_TYPE, payload, key)


def cohort_digest(cohort: Iterable[str]) -> str:
    """Return the digest that binds a mask key to the exact set of assets, in any order."""
    names = sorted(set(cohort))
    return "sha256:" + digest(COHORT_NAMESPACE, canonical(names)).hex()


def open_mask_key(
    data: bytes,
    key: VerifyKey,
    *,
    asset: str,
    job: str,
    attempt: int,
    round_number: int,
    cohort: Iterable[str],
) -> PublicMaskKey:
    """Verify a peer's mask key and that it was made for exactly this use.

    Args:
        data: the signed envelope.
        key: the node's key, from the asset statement that the ledger proves.
        asset: whose key it must be.
        job: and so on: a key for another job, attempt, round or cohort is refused, because a
            replayed key would let old masks cancel new ones.
        attempt: see `job`.
        round_number: see `job`.
        cohort: see `job`.

    Raises:
        PeerKeyError: not signed by `key`, malformed, or made for another use.
    """
    try:
        payload = envelope.open_(data, MASK_KEY_TYPE, key)
    except (SignatureError, StatementError) as error:
        raise PeerKeyError(f"mask key of {asset}: {error}") from None
    expected: dict[str, str | int] = {
        "asset": asset,
        "job": job,
        "attempt": attempt,
        "round": round_number,
        "cohort_digest": cohort_digest(cohort),
    }
    if set(payload) != {*expected, "public"}:
        raise PeerKeyError(f"mask key of {asset}: has other fields than a mask key")
    for name, value in expected.items():
        if payload[name] != value or type(payload[name]) is not type(value):
            raise PeerKeyError(f"mask key of {asset}: made for another {name}")
    try:
        public = _bytes(payload["public"])
    except ValueError:
        raise PeerKeyError(f"mask key of {asset}: public must be base64") from None
    if len(public) != _PUBLIC_KEY_BYTES:
        raise PeerKeyError(f"mask key of {asset}: public must be {_PUBLIC_KEY_BYTES} bytes")
    return PublicMaskKey(asset, job, attempt, round_number, payload["cohort_digest"], public)
