"""What nodes sign for each other, and the coordinator only carries: mask keys and survivor lists.

Decides that such a thing was signed by the node that the ledger proves, for exactly this job,
attempt, round and cohort. Does not decide whether to act on it: the node does.

    signed = PublicMaskKey(…).sign(node_key)
    found = open_mask_key(signed, key, asset=asset, use=Use(job, 1, 3, cohort))

A mask key message holds two public X25519 keys for one round: one that masks come from, whose
secret the others put together when its owner drops out, and one to which they seal shares, whose
secret nobody ever learns.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from federated.errors import PeerKeyError, SurvivorsError
from ledger.encoding import b64decode, b64encode, canonical, digest
from ledger.errors import EncodingError, LedgerError, SignatureError, StatementError
from ledger.keys import SigningKey, VerifyKey
from ledger.statements import envelope

MASK_KEY_TYPE: Final = "application/vnd.rongshu.mask-key.v3+json"
SURVIVORS_TYPE: Final = "application/vnd.rongshu.survivors.v1+json"
COHORT_NAMESPACE: Final = "rongshu/cohort/v1"

_KEY_BYTES = 32
_REMEMBERED = 1024


@dataclass(frozen=True)
class Use:
    """What a signed key or list is for, and nothing else: one round of one attempt at one job.

    Attributes:
        cohort: ids of all assets of the job.
    """

    job: str
    attempt: int
    round: int
    cohort: tuple[str, ...]

    def fields(self) -> dict[str, str | int]:
        """Return what stands in every payload signed for this use."""
        return {
            "job": self.job,
            "attempt": self.attempt,
            "round": self.round,
            "cohort_digest": cohort_digest(self.cohort),
        }


@dataclass(frozen=True)
class PublicMaskKey:
    """A node's public X25519 keys for exactly one round of one attempt with one cohort.

    Attributes:
        public: of its mask key, 32 bytes.
        share_public: of its share key, 32 bytes.
        answered: digest of the request that its node answered together with these keys; empty where
            no round came before. Those of all parties of a request show that nobody dropped out.
    """

    asset: str
    use: Use
    public: bytes
    share_public: bytes
    answered: str = ""

    def sign(self, key: SigningKey) -> bytes:
        """Return the envelope that tells the cohort these keys, signed by the node's key."""
        payload = {
            "asset": self.asset,
            **self.use.fields(),
            "answered": self.answered,
            "public": b64encode(self.public),
            "share_public": b64encode(self.share_public),
        }
        return envelope.sign(MASK_KEY_TYPE, payload, key)


def cohort_digest(cohort: Iterable[str]) -> str:
    """Return the digest that binds a mask key to the exact set of assets, in any order."""
    return _cohort_digest(tuple(cohort))


@functools.lru_cache(_REMEMBERED)
def _cohort_digest(cohort: tuple[str, ...]) -> str:
    return "sha256:" + digest(COHORT_NAMESPACE, canonical(sorted(set(cohort)))).hex()


def open_mask_key(
    data: bytes, key: VerifyKey, *, asset: str, use: Use, answered: str = ""
) -> PublicMaskKey:
    """Verify a peer's mask key and that it was made for exactly this use.

    Args:
        data: the signed envelope.
        key: the node's key, from the asset statement that the ledger proves.
        asset: whose key it must be.
        use: what it must be for: a key for another job, attempt, round or cohort is refused,
            because a replayed key would let old masks cancel new ones.
        answered: digest of the request of the round before; empty where there was none.

    Raises:
        PeerKeyError: not signed by `key`, malformed, or made for another use.
    """
    try:
        payload = dict(_signed(data, key))
    except (SignatureError, StatementError) as error:
        raise PeerKeyError(f"mask key of {asset}: {error}") from None
    expected = {"asset": asset, "answered": answered, **use.fields()}
    if set(payload) != {*expected, "public", "share_public"}:
        raise PeerKeyError(f"mask key of {asset}: has other fields than a mask key")
    for name, value in expected.items():
        if payload[name] != value or type(payload[name]) is not type(value):
            raise PeerKeyError(f"mask key of {asset}: made for another {name}")
    keys = {name: _public(asset, name, payload[name]) for name in ("public", "share_public")}
    return PublicMaskKey(asset, use, keys["public"], keys["share_public"], answered)


# On one machine the coordinator and every node meet the same signed keys. Whether they are signed
# depends on nothing but the arguments; what is refused is not remembered.
@functools.lru_cache(_REMEMBERED)
def _signed(data: bytes, key: VerifyKey) -> tuple[tuple[str, Any], ...]:
    return tuple(envelope.open_(data, MASK_KEY_TYPE, key).items())


def raw_mask_key(data: bytes) -> bytes:
    """Return the public mask key in an envelope whose signature somebody else has verified.

    Raises:
        PeerKeyError: malformed.
    """
    try:
        payload = envelope.raw_open(data).payload
    except LedgerError as error:
        raise PeerKeyError(f"a mask key cannot be read: {error}") from None
    return _public("somebody", "public", payload.get("public"))


def _public(asset: str, name: str, value: Any) -> bytes:
    try:
        data = b64decode(value) if isinstance(value, str) else b""
    except EncodingError:
        raise PeerKeyError(f"mask key of {asset}: {name} must be base64") from None
    if len(data) != _KEY_BYTES:
        raise PeerKeyError(f"mask key of {asset}: {name} must be {_KEY_BYTES} bytes")
    return data


@dataclass(frozen=True)
class SurvivorList:
    """One node's word on whose contributions a round has.

    Attributes:
        asset: who signs.
        request: digest of the round's request, so that all agree on question and keys too.
        survivors: ids of assets, ascending.
    """

    asset: str
    use: Use
    request: str
    survivors: tuple[str, ...]

    def sign(self, key: SigningKey) -> bytes:
        """Return the signed envelope."""
        return envelope.sign(SURVIVORS_TYPE, self._payload(), key)

    def _payload(self) -> dict[str, Any]:
        return {
            "asset": self.asset,
            **self.use.fields(),
            "request": self.request,
            "survivors": list(self.survivors),
        }

    def check(self, data: bytes, key: VerifyKey) -> None:
        """Verify that these bytes are this very list, signed by its node.

        Raises:
            SurvivorsError: another list, or not signed by `key`.
        """
        try:
            payload = envelope.open_(data, SURVIVORS_TYPE, key)
        except (SignatureError, StatementError) as error:
            raise SurvivorsError(f"survivor list of {self.asset}: {error}") from None
        if payload != self._payload():
            raise SurvivorsError(f"survivor list of {self.asset}: differs from this node's")

    def check_enough(
        self, lists: Mapping[str, bytes], keys: Mapping[str, VerifyKey], threshold: int
    ) -> None:
        """Verify that enough survivors signed the same list, as this node did.

        Args:
            lists: signed lists by asset; not trusted.
            keys: key of each node by asset, from the ledger.
            threshold: how many are needed.

        Raises:
            SurvivorsError: too few, of somebody who is no survivor, or one that differs.
        """
        if not set(lists) <= set(self.survivors):
            raise SurvivorsError("somebody who is no survivor signed a list")
        if len(lists) < threshold:
            raise SurvivorsError(f"{len(lists)} signed the list where {threshold} must")
        for asset in lists:
            dataclasses.replace(self, asset=asset).check(lists[asset], keys[asset])
