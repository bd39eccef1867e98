"""What nodes say to each other in one attempt at a job, past an operator who only carries it.

Decides that a parcel comes from the node that the ledger proves, for this node, in exactly this
round of this attempt with this cohort, unchanged. Does not decide what is in it, or hide who speaks
to whom, when, and how much.

    channel = Channel.fresh(use, asset, node_key)        # `channel.signed` goes to the others
    channel.meet(keys, node_keys)                        # everybody's, verified
    sealed = channel.seal(1, {peer: b"…"})               # what the operator carries
    parcels = channel.open(2, {peer: sealed})            # in round 2, what was sent in round 1

Each node draws an X25519 key for the attempt and signs its public half; the secret is never written
down. A parcel is a box of `privacy.sealed_box`, whose context names job, attempt, cohort and the
round in which it was sent. So the operator can withhold a parcel or stop the job, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from federated.errors import ChannelError
from federated.peers import Use, cohort_digest
from ledger.encoding import b64decode, b64encode, canonical, digest
from ledger.errors import EncodingError, LedgerError
from ledger.keys import SigningKey, VerifyKey
from ledger.statements import envelope
from privacy import sealed_box
from privacy.errors import BoxError
from privacy.sealed_box import BoxKey, Ends

CHANNEL_KEY_TYPE: Final = "application/vnd.rongshu.channel-key.v1+json"
PARCEL_NAMESPACE: Final = "rongshu/parcel/v1"
CONTEXT_NAMESPACE: Final = "rongshu/parcel-context/v1"

_KEY_BYTES = 32


@dataclass
class Channel:
    """One node's end of the channel.

    Attributes:
        use: job, attempt and cohort that it is for; its round plays no part.
        asset: this node's.
        signed: its public key, as the others get it.
        peers: by asset, the others' public keys, once `meet` has verified them.
    """

    use: Use
    asset: str
    signed: bytes
    peers: dict[str, bytes] = field(default_factory=dict)
    _own: BoxKey = field(default_factory=BoxKey.generate, repr=False)

    @classmethod
    def fresh(cls, use: Use, asset: str, key: SigningKey) -> Channel:
        """Draw a key and sign its public half by the node's key."""
        made = cls(use, asset, b"")
        payload = {**made._fields(asset), "public": b64encode(made._own.public)}
        made.signed = envelope.sign(CHANNEL_KEY_TYPE, payload, key)
        return made

    @property
    def binding(self) -> bytes:
        """32 bytes that name job, attempt and cohort, the same at every party and at no other."""
        return digest(CONTEXT_NAMESPACE, canonical(self._fields("")))

    def meet(self, keys: Mapping[str, bytes], node_keys: Mapping[str, VerifyKey]) -> None:
        """Verify everybody's keys, once.

        Args:
            keys: signed keys by asset, this node's own among them; not trusted.
            node_keys: key of each node by asset, from the ledger.

        Raises:
            ChannelError: somebody is missing or too many, a key is not its node's or for another
                use, or this node's own was replaced.
        """
        if self.peers:
            raise ChannelError("the keys of this channel were exchanged already")
        if set(keys) != set(self.use.cohort):
            raise ChannelError("the keys are not those of the cohort")
        if keys[self.asset] != self.signed:
            raise ChannelError("this node's own channel key was replaced")
        others = sorted(keys.keys() - {self.asset})
        self.peers = {peer: self._opened(peer, keys[peer], node_keys[peer]) for peer in others}

    def seal(self, number: int, parcels: Mapping[str, bytes]) -> dict[str, bytes]:
        """Seal what this node sends in a round, by receiver.

        Raises:
            ChannelError: to somebody who is not of the cohort, or whose key was not met.
        """
        sealed = {}
        for peer, content in parcels.items():
            public, ends = self._public(peer), self._ends(self.asset, peer, number)
            try:
                sealed[peer] = sealed_box.seal(PARCEL_NAMESPACE, content, ends, self._own, public)
            except BoxError as error:
                raise ChannelError(str(error)) from error
        return sealed

    def open(self, number: int, sealed: Mapping[str, bytes]) -> dict[str, bytes]:
        """Open what the others sent in the round before; by sender.

        Args:
            number: the round that is under way, from 2.
            sealed: boxes by sender; not trusted.

        Raises:
            ChannelError: one was changed, exchanged, carried before, or sent by or for another.
        """
        found = {}
        for peer, box in sealed.items():
            public, ends = self._public(peer), self._ends(peer, self.asset, number - 1)
            try:
                found[peer] = sealed_box.open_(PARCEL_NAMESPACE, box, ends, self._own, public)
            except BoxError as error:
                raise ChannelError(f"a parcel of round {number - 1}: {error}") from error
        return found

    def _public(self, peer: str) -> bytes:
        if peer not in self.peers:
            raise ChannelError("a parcel is from or for somebody who is not of the cohort")
        return self.peers[peer]

    def _ends(self, sender: str, receiver: str, number: int) -> Ends:
        return Ends(sender, receiver, self.binding + number.to_bytes(8, "big"))

    def _fields(self, asset: str) -> dict[str, str | int]:
        use = self.use
        return {
            "asset": asset,
            "job": use.job,
            "attempt": use.attempt,
            "cohort_digest": cohort_digest(use.cohort),
        }

    def _opened(self, peer: str, data: bytes, key: VerifyKey) -> bytes:
        try:
            payload = envelope.open_(data, CHANNEL_KEY_TYPE, key)
        except LedgerError as error:
            raise ChannelError(f"channel key of {peer}: {error}") from None
        expected = self._fields(peer)
        if set(payload) != {*expected, "public"}:
            raise ChannelError(f"channel key of {peer}: has other fields than a channel key")
        for name, value in expected.items():
            if payload[name] != value or type(payload[name]) is not type(value):
                raise ChannelError(f"channel key of {peer}: made for another {name}")
        try:
            public = b64decode(payload["public"])
        except (EncodingError, TypeError, AttributeError):
            public = b""
        if len(public) != _KEY_BYTES:
            raise ChannelError(f"channel key of {peer}: public must be {_KEY_BYTES} bytes")
        return public
