"""A node's secrets of one round: what it deals to the others, masks with, signs, and reveals.

Follows figure 4 of Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine
Learning" (CCS 2017), one method a step, each once:

    secrets = RoundSecrets.fresh(use, asset, node_key, 3)  # `secrets.signed` goes to the others
    boxes = secrets.deal(mask_keys, …)                # shares of both secrets, one box a party
    masked = secrets.mask(words, mask_keys, request)  # the contribution
    signed = secrets.agree(survivors, node_key)       # where somebody left: one list, no second
    shares = secrets.reveal(lists, boxes, …)          # of a seed or of a mask key, never both

Decides that no step comes out of order, and that what the coordinator relays is what the peers
signed. Held in memory alone: whoever restarts has forgotten them, and the round with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from federated.errors import PeerKeyError, RefusedError, SurvivorsError
from federated.peers import PublicMaskKey, SurvivorList, Use, open_mask_key
from federated.plan import Words
from ledger.keys import SigningKey, VerifyKey
from privacy import sealed_shares, shamir
from privacy.errors import PrivacyError
from privacy.masking import MaskKey, mask, mask_context
from privacy.recovery import seed_commitment
from privacy.sealed_shares import ShareKey, SharePair
from privacy.secure_random import random_bytes

_SEED_BYTES = 32


@dataclass
class RoundSecrets:
    """One round at one node.

    Attributes:
        use: which round of which job; its cohort is the one granted.
        asset: this node's.
        signed: its public keys, as the others get them.
        minimum: fewest providers that its grant permits.
        providers: by asset, whose it is: two assets of one provider hide nothing from each other.
        dealt: by asset, the keys of those to whom shares were dealt; empty before.
        request: digest of the question that it answered; empty before.
        masked: assets with whose keys the contribution is masked, its own too.
        survivors: the list that it signed because somebody left, or revealed for; empty before.
        answered: what its signed keys say of the round before; see `PublicMaskKey`.
    """

    use: Use
    asset: str
    signed: bytes
    minimum: int
    providers: Mapping[str, str] = field(default_factory=dict)
    dealt: dict[str, PublicMaskKey] = field(default_factory=dict)
    request: str = ""
    masked: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()
    answered: str = ""
    _mask_key: MaskKey = field(default_factory=MaskKey.generate, repr=False)
    _share_key: ShareKey = field(default_factory=ShareKey.generate, repr=False)
    _seed: bytes = field(default_factory=lambda: random_bytes(_SEED_BYTES), repr=False)
    _envelopes: dict[str, bytes] = field(default_factory=dict, repr=False)
    _own: SharePair | None = field(default=None, repr=False)

    @classmethod
    def fresh(
        cls,
        use: Use,
        asset: str,
        key: SigningKey,
        minimum: int,
        providers: Mapping[str, str] | None = None,
        answered: str = "",
    ) -> RoundSecrets:
        """Draw the secrets of a round and sign their public halves.

        Args:
            use: which round.
            asset: this node's.
            key: the node's signing key.
            minimum: fewest providers that its grant permits.
            providers: by asset, whose it is; each its own where None.
            answered: digest of the request that is answered together with them.
        """
        made = cls(use, asset, b"", minimum, providers or {}, answered=answered)
        made.signed = made._public().sign(key)
        return made

    def _public(self) -> PublicMaskKey:
        keys = self._mask_key.public, self._share_key.public
        return PublicMaskKey(self.asset, self.use, *keys, self.answered)

    @property
    def threshold(self) -> int:
        """How many shares give a secret back: two thirds of the granted cohort, and one."""
        return shamir.recovery_threshold(len(self.use.cohort))

    def deal(
        self, mask_keys: Mapping[str, bytes], node_keys: Mapping[str, VerifyKey]
    ) -> dict[str, bytes]:
        """Verify everybody's keys and deal shares of this node's two secrets.

        Args:
            mask_keys: signed keys by asset, this node's own among them; not trusted.
            node_keys: key of each node by asset, from the ledger.

        Returns:
            One box for each other party.

        Raises:
            RefusedError: `grant_mismatch` for too few parties, strangers or a second time;
                `not_proven` for a key that is not its node's, or in the place of this node's, or of
                one that answered another request than this node.
        """
        if self.dealt:
            raise RefusedError("grant_mismatch", "shares of this round were dealt already")
        self._check_parties(set(mask_keys), set(self.use.cohort))
        if mask_keys[self.asset] != self.signed:
            raise RefusedError("not_proven", "this node's own mask key was replaced")
        found = {self.asset: self._public()}
        for asset in sorted(mask_keys.keys() - {self.asset}):
            try:
                found[asset] = open_mask_key(
                    mask_keys[asset],
                    node_keys[asset],
                    asset=asset,
                    use=self.use,
                    answered=self.answered,
                )
            except PeerKeyError as error:
                raise RefusedError("not_proven", str(error)) from error
        holders, threshold = sorted(found), self.threshold
        keys = shamir.split(self._mask_key.raw_secret_bytes(), holders=holders, threshold=threshold)
        seeds = shamir.split(self._seed, holders=holders, threshold=threshold)
        context = self._context(holders)
        boxes = {
            holder: sealed_shares.seal(
                SharePair(keys[holder], seeds[holder]),
                sender=self.asset,
                own=self._share_key,
                receiver=holder,
                peer_public=found[holder].share_public,
                context=context,
            )
            for holder in holders
            if holder != self.asset
        }
        self.dealt, self._envelopes = found, dict(mask_keys)
        self._own = SharePair(keys[self.asset], seeds[self.asset])
        return boxes

    def mask(self, words: Words, mask_keys: Mapping[str, bytes], request: str) -> Words:
        """Mask an answer; once.

        Args:
            words: uint64[n], the encoded answer.
            mask_keys: keys of those who dealt shares, as `check_question` saw them.
            request: digest of the request that asks.

        Returns:
            uint64[n]; alone it is uniformly random to whoever lacks the secrets.
        """
        parties = tuple(sorted(mask_keys))
        peers = {asset: self.dealt[asset].public for asset in parties if asset != self.asset}
        self.request, self.masked = request, parties
        return mask(
            words,
            own_id=self.asset,
            own=self._mask_key,
            peers=peers,
            context=self._context(parties),
            seed=self._seed,
        )

    def check_question(self, mask_keys: Mapping[str, bytes]) -> None:
        """Check before anything is computed that this round can be answered, and was not.

        Raises:
            RefusedError: `grant_mismatch` for too few parties, strangers, another question before
                or no shares dealt; `not_proven` for keys that are not those dealt to.
        """
        if not self.dealt or self.request:
            raise RefusedError("grant_mismatch", "this round was answered, or no shares are dealt")
        self._check_parties(set(mask_keys), set(self.dealt))
        for asset, signed in mask_keys.items():
            if self._envelopes[asset] != signed:
                raise RefusedError("not_proven", f"another mask key of {asset} than before")

    def commitment(self) -> bytes:
        """Return what is published with the contribution, by which its seed can be checked."""
        return seed_commitment(self._seed, owner=self.asset, context=self._context(self.masked))

    def agree(self, survivors: tuple[str, ...], key: SigningKey) -> bytes:
        """Sign whose contributions the round has, as somebody dropped out; never a second list.

        Raises:
            RefusedError: `grant_mismatch`: a second list, too few, strangers, or without this
                node's contribution.
        """
        if not self.request or self.survivors:
            raise RefusedError("grant_mismatch", "nothing was answered, or a list was signed")
        self._check_parties(set(survivors), set(self.masked))
        self.survivors = survivors
        return self._list().sign(key)

    def reveal(
        self,
        lists: Mapping[str, bytes],
        boxes: Mapping[str, bytes],
        node_keys: Mapping[str, VerifyKey],
        after: RoundSecrets,
    ) -> dict[str, bytes]:
        """Return one share for each party that masked: a survivor's seed, or a dropped one's key.

        Once, for one list: the one that `agree` signed here and enough others signed too, or, where
        it signed none, the one with every party on it that masked.

        Args:
            lists: the survivors' signed lists; not trusted.
            boxes: what the others dealt to this node, by sender; not trusted.
            node_keys: key of each node by asset, from the ledger.
            after: the secrets of the round to come, dealt to those who answered this one.

        Raises:
            RefusedError: `grant_mismatch`: nothing was answered here, or too few agree.
        """
        if not self.request or self._own is None:
            raise RefusedError("grant_mismatch", "nothing was answered here, or it was revealed")
        if after.answered != self.request or set(after.dealt) != set(self.survivors or self.masked):
            raise RefusedError(
                "grant_mismatch", "these are not all who answered, or are on the list"
            )
        if self.survivors:
            try:
                self._list().check_enough(lists, node_keys, self.threshold)
            except SurvivorsError as error:
                raise RefusedError("grant_mismatch", str(error)) from error
        self.survivors = self.survivors or self.masked
        context = self._context(sorted(self.dealt))
        shares = {self.asset: self._own.seed}
        for sender in self.masked:
            if sender == self.asset or sender not in boxes:
                continue
            try:
                pair = sealed_shares.open_(
                    boxes[sender],
                    sender=sender,
                    peer_public=self.dealt[sender].share_public,
                    receiver=self.asset,
                    own=self._share_key,
                    context=context,
                )
            except PrivacyError:
                # The others' shares may be enough; the coordinator sees that this one lacks.
                continue
            shares[sender] = pair.seed if sender in self.survivors else pair.mask_key
        # What was revealed cannot be revealed the other way round: the secrets go.
        self._own = None
        return shares

    def _list(self) -> SurvivorList:
        return SurvivorList(self.asset, self.use, self.request, self.survivors)

    def _context(self, parties: Iterable[str]) -> bytes:
        names = tuple(parties)
        return mask_context(self.use.job, self.use.attempt, self.use.round, names)

    def _check_parties(self, parties: set[str], known: set[str]) -> None:
        if self.asset not in parties or not parties <= known:
            raise RefusedError("grant_mismatch", "the parties are not those of the round")
        providers = {self.providers.get(party, party) for party in parties}
        if len(parties) < self.threshold or len(providers) < self.minimum:
            raise RefusedError(
                "grant_mismatch",
                f"{len(parties)} parties of {len(providers)} providers where at least "
                f"{self.threshold} of {self.minimum} are needed",
            )
