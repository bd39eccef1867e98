"""Takes the masks off a sum from which some parties are missing.

Each party masked its vector twice (`privacy.masking`): with the pairwise masks, which cancel
between parties that both contributed, and with a self mask from a seed. For each *survivor*, whose
contribution is in the sum, the cohort reveals the seed; for each *dropped* party, whose is not, it
reveals the mask key. This is section 4 and the last step of figure 4 of Bonawitz et al.,
"Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017).

What it decides: that every party of the cohort is either survivor or dropped, and that each seed
and key is the one its owner committed to and signed. What it does not do: decide who survived;
check that `total` is the sum over exactly the survivors; or keep anyone from learning both halves
of one party's masks, which would show its vector. The last is the duty of each node, which answers
for one list of survivors and never for two.

    sent = mask(vector, own_id="a", own=own, peers=peers, context=context, seed=seed)
    promise = seed_commitment(seed, owner="a", context=context)     # published with `sent`
    ...
    result = unmask(add([sent, sent_of_b]), survivors={"a": seed, "b": seed_of_b},
                    dropped={"c": MaskKey.from_secret(combined)}, publics=publics,
                    commitments=commitments, context=context)

A sum under encryption is treated in the same way: the negative of `correction` is one more
contribution to add, so the number of parties to decrypt for is one more.
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from privacy.derivation import KEY_BYTES, id_bytes, prefixed
from privacy.errors import MaskError, RecoveredKeyError, RecoveryError, SeedError
from privacy.fixedpoint import Words
from privacy.masking import (
    MaskKey,
    check_length,
    check_seed,
    check_vector,
    pairwise_mask,
    self_mask,
)

COMMITMENT_NAMESPACE = "rongshu/seed-commitment/v1"

MIN_SURVIVORS = 2
"""The sum of one vector is that vector. Signed terms may ask for more than two."""


def seed_commitment(seed: bytes, *, owner: str, context: bytes) -> bytes:
    """Returns what a party publishes, so that a seed put together by others can be checked.

    SHA-256 over the namespace, context, owner and seed, each preceded by its length. It hides the
    seed because the seed is 32 random bytes.

    Args:
        seed: The party's 32 bytes for this round.
        owner: Its id.
        context: From `masking.mask_context`, as for the masks.

    Returns:
        32 bytes.

    Raises:
        MaskError: If the seed has another length, or id or context are empty.
    """
    if not context:
        raise MaskError("a commitment needs a context, or it would serve in every round")
    fields = [COMMITMENT_NAMESPACE.encode(), context, id_bytes(owner), check_seed(seed)]
    return hashlib.sha256(prefixed(fields)).digest()


def unmask(
    total: Words,
    *,
    survivors: Mapping[str, bytes],
    dropped: Mapping[str, MaskKey],
    publics: Mapping[str, bytes],
    commitments: Mapping[str, bytes],
    context: bytes,
) -> Words:
    """Returns the sum of the survivors' plain vectors.

    Args:
        total: uint64[n], the sum of the survivors' contributions and of no others.
        survivors: Seed of each party whose contribution is in the sum, by id.
        dropped: Mask key of each party whose contribution is not, by id.
        publics: Public mask key of each party that the others masked with, as it signed it, by id.
        commitments: What each survivor published with its contribution, by id.
        context: From `masking.mask_context`, as for the masks.

    Returns:
        uint64[n], a new array.

    Raises:
        VectorError: If `total` is not uint64[n].
        RecoveryError: If a party is both, neither, or unknown, there are fewer than two
            survivors, or a commitment is missing.
        SeedError: If a seed is not the one committed to; `party` is its owner.
        RecoveredKeyError: If a key is not the one signed; `party` is its owner.
        MaskKeyError: If a public key must not be used.
    """
    check_vector(total)
    return total - correction(
        len(total),
        survivors=survivors,
        dropped=dropped,
        publics=publics,
        commitments=commitments,
        context=context,
    )


def correction(
    length: int,
    *,
    survivors: Mapping[str, bytes],
    dropped: Mapping[str, MaskKey],
    publics: Mapping[str, bytes],
    commitments: Mapping[str, bytes],
    context: bytes,
) -> Words:
    """Returns what is to be subtracted from the sum of the survivors' contributions.

    Args:
        length: Number of words of a contribution.
        survivors: As for `unmask`.
        dropped: As for `unmask`.
        publics: As for `unmask`.
        commitments: As for `unmask`.
        context: As for `unmask`.

    Returns:
        uint64[length]: the survivors' self masks, plus what they added and less what they
        subtracted for dropped parties, modulo 2^64.

    Raises:
        VectorError: If no vector has this length.
        RecoveryError: As for `unmask`, with its subclasses.
        MaskKeyError: As for `unmask`.
    """
    check_length(length)
    _check_parties(set(survivors), set(dropped), set(publics))
    for party, seed in survivors.items():
        _check_commitment(party, seed, commitments, context)
    for party, key in dropped.items():
        if key.public != publics[party]:
            raise RecoveredKeyError(
                f"the mask key recovered for {party!r} is not the one that it signed; "
                "it dealt false shares, or holders gave false ones",
                party=party,
            )
    rest = np.zeros(length, np.uint64)
    for party, seed in survivors.items():
        rest += self_mask(length, seed=seed, owner=party, context=context)
    peers = {party: publics[party] for party in survivors}
    for party, key in dropped.items():
        # What the dropped party would have added is what would have cancelled the rest.
        rest -= pairwise_mask(length, own_id=party, own=key, peers=peers, context=context)
    return rest


def _check_parties(survivors: set[str], dropped: set[str], cohort: set[str]) -> None:
    """Raises RecoveryError unless survivors and dropped parties make up the cohort."""
    for party in sorted(survivors & dropped):
        raise RecoveryError(
            f"{party!r} is said to have both contributed and dropped out; "
            "with both its secrets its vector could be read",
            party=party,
        )
    for party in sorted((survivors | dropped) - cohort):
        raise RecoveryError(f"{party!r} is none of the parties that masks are between", party=party)
    for party in sorted(cohort - survivors - dropped):
        raise RecoveryError(
            f"{party!r} is neither survivor nor dropped; the masks with it would stay",
            party=party,
        )
    if len(survivors) < MIN_SURVIVORS:
        raise RecoveryError(
            f"a sum of {len(survivors)} contributions is not opened; "
            f"at least {MIN_SURVIVORS} are needed"
        )


def _check_commitment(
    party: str, seed: bytes, commitments: Mapping[str, bytes], context: bytes
) -> None:
    """Raises SeedError unless the seed is the one that its owner committed to."""
    if party not in commitments:
        raise RecoveryError(f"{party!r} published no commitment to its seed", party=party)
    promised = commitments[party]
    if len(seed) != KEY_BYTES or seed_commitment(seed, owner=party, context=context) != promised:
        raise SeedError(
            f"the seed recovered for {party!r} is not the one that it committed to; "
            "it dealt false shares, or holders gave false ones",
            party=party,
        )
