"""One round of masked aggregation in memory, in which parties leave at any stage and one may lie.

    opened = play(vectors, leaves={"asset:03": Stage.CONTRIBUTION}, lie=Lie("share", by="asset:01"))
    opened.contributors, opened.total

The steps are those of figure 4 of Bonawitz et al. (CCS 2017), without signatures and messages:
every party is honest about the rest. What cannot be recovered raises a `PrivacyError`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from privacy.masking import MaskKey, add, mask, mask_context
from privacy.recovery import seed_commitment, unmask
from privacy.sealed_shares import ShareKey, SharePair, open_, seal
from privacy.secure_random import random_bytes
from privacy.shamir import combine, recovery_threshold, split


class Stage(IntEnum):
    """What a party that leaves does not do any more."""

    KEYS = 0
    SHARES = 1
    CONTRIBUTION = 2
    REVEAL = 3


@dataclass(frozen=True)
class Lie:
    """What one party does wrong.

    Attributes:
        kind: "share" reveals a share with one bit changed; "cunning share" one that shifts the
            secret by 1 where no more shares than needed answer; "seed" and "key" deal shares of
            another seed or mask key; "commitment" publishes another one; "box" damages what it
            sends; "place" reveals what another holder was dealt.
        by: The liar.
        about: Whose share it is, for the lies about shares; the receiver of a box.
    """

    kind: str
    by: str
    about: str = ""


KINDS = ("share", "cunning share", "seed", "key", "commitment", "box", "place")


@dataclass
class Party:
    """What one party keeps in one round."""

    mask_key: MaskKey = field(default_factory=MaskKey.generate)
    share_key: ShareKey = field(default_factory=ShareKey.generate)
    seed: bytes = field(default_factory=lambda: random_bytes(32))
    dealt: dict[str, SharePair] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """What the operator ends up with."""

    contributors: list[str]
    total: np.ndarray


def play(
    vectors: Mapping[str, np.ndarray],
    leaves: Mapping[str, Stage],
    lie: Lie = Lie("none", by=""),
) -> Opened:
    """Plays the round; the threshold is that of the whole cohort."""
    threshold = recovery_threshold(len(vectors))

    def still(parties: list[str], stage: Stage) -> list[str]:
        return [party for party in parties if leaves.get(party) != stage]

    keyed = still(sorted(vectors), Stage.KEYS)
    parties = {party: Party() for party in keyed}
    dealers = still(keyed, Stage.SHARES)
    deal(parties, dealers, threshold, lie)

    contributors = still(dealers, Stage.CONTRIBUTION)
    context = mask_context("job:1", 1, 1, dealers)
    publics = {party: parties[party].mask_key.public for party in dealers}
    sent, commitments = {}, {}
    for party in contributors:
        me = parties[party]
        peers = {other: public for other, public in publics.items() if other != party}
        sent[party] = mask(
            vectors[party],
            own_id=party,
            own=me.mask_key,
            peers=peers,
            context=context,
            seed=me.seed,
        )
        commitments[party] = seed_commitment(me.seed, owner=party, context=context)
    if lie.kind == "commitment" and lie.by in commitments:
        commitments[lie.by] = random_bytes(32)

    answering = still(contributors, Stage.REVEAL)
    revealed: dict[str, dict[str, bytes]] = {owner: {} for owner in dealers}
    for owner in dealers:
        for holder in answering:
            pair = parties[holder].dealt[owner]
            revealed[owner][holder] = pair.seed if owner in contributors else pair.mask_key
    if lie.by in answering and lie.about in dealers:
        bend(revealed[lie.about], lie, keyed)
    secrets = {
        owner: combine(shares, holders=keyed, threshold=threshold)
        for owner, shares in revealed.items()
    }
    total = unmask(
        add(list(sent.values())),
        survivors={party: secrets[party] for party in contributors},
        dropped={p: MaskKey.from_secret(secrets[p]) for p in dealers if p not in contributors},
        publics=publics,
        commitments=commitments,
        context=context,
    )
    return Opened(contributors, total)


def deal(parties: Mapping[str, Party], dealers: list[str], threshold: int, lie: Lie) -> None:
    """Every dealer splits both its secrets and sends each party a box, which that party opens."""
    context = mask_context("job:1", 1, 1, list(parties))
    for dealer in dealers:
        me = parties[dealer]
        secret, seed = me.mask_key.raw_secret_bytes(), me.seed
        if lie.by == dealer and lie.kind == "key":
            secret = random_bytes(32)
        if lie.by == dealer and lie.kind == "seed":
            seed = random_bytes(32)
        key_shares = split(secret, holders=list(parties), threshold=threshold)
        seed_shares = split(seed, holders=list(parties), threshold=threshold)
        for holder, you in parties.items():
            pair = SharePair(mask_key=key_shares[holder], seed=seed_shares[holder])
            if holder == dealer:
                you.dealt[dealer] = pair
                continue
            box = seal(
                pair,
                sender=dealer,
                own=me.share_key,
                receiver=holder,
                peer_public=you.share_key.public,
                context=context,
            )
            if (lie.kind, lie.by, lie.about) == ("box", dealer, holder):
                box = box[:-1] + bytes([box[-1] ^ 1])
            you.dealt[dealer] = open_(
                box,
                sender=dealer,
                peer_public=me.share_key.public,
                receiver=holder,
                own=you.share_key,
                context=context,
            )


def bend(shares: dict[str, bytes], lie: Lie, holders: list[str]) -> None:
    """Changes what the liar reveals of one owner's shares."""
    share = shares[lie.by]
    if lie.kind == "share":
        shares[lie.by] = share[:-1] + bytes([share[-1] ^ 1])
    elif lie.kind == "place":
        shares[lie.by] = next(other for holder, other in shares.items() if holder != lie.by)
    elif lie.kind == "cunning share":
        prime = 2**521 - 1
        own = 1 + holders.index(lie.by)
        others = [1 + holders.index(holder) for holder in shares if holder != lie.by]
        # The weight of the liar's share at 0 (Lagrange), if exactly these shares are used.
        weight = 1
        for other in others:
            weight = weight * other * pow(other - own, -1, prime) % prime
        value = (int.from_bytes(share[2:], "big") + pow(weight, -1, prime)) % prime
        shares[lie.by] = share[:2] + value.to_bytes(66, "big")
