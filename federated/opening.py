"""Puts the secrets of a round together from the shares that its survivors revealed.

Decides nothing about who survived. A share may be false: each secret is checked against what its
owner committed to or signed, and the sum is opened only when every one of them came out.

    opened = open_secrets(Revealed(parties, survivors, use), shares, keys=…, commitments=…)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from federated.errors import ContributionError
from federated.peers import Use, raw_mask_key
from federated.rounds import Opened
from privacy import shamir
from privacy.errors import PrivacyError
from privacy.masking import MaskKey, mask_context
from privacy.recovery import seed_commitment

BAD_SHARES: Final = "bad_shares"


@dataclass(frozen=True)
class Revealed:
    """Whose shares of what were asked for.

    Attributes:
        parties: assets with whose keys the contributions are masked.
        survivors: those of them whose contributions are in the sum.
        use: the round.
    """

    parties: tuple[str, ...]
    survivors: tuple[str, ...]
    use: Use

    @property
    def dropped(self) -> tuple[str, ...]:
        """Those whose contributions are missing."""
        return tuple(asset for asset in self.parties if asset not in self.survivors)


def open_secrets(
    revealed: Revealed,
    shares: Mapping[str, Mapping[str, bytes]],
    *,
    holders: tuple[str, ...],
    keys: Mapping[str, bytes],
    commitments: Mapping[str, bytes],
) -> Opened:
    """Return the survivors' seeds and the dropped parties' mask keys.

    Args:
        revealed: whose.
        shares: by holder and owner, as the survivors revealed them.
        holders: assets among which the owners split their secrets.
        keys: signed mask keys by owner, looked at before.
        commitments: by survivor.

    Raises:
        ContributionError: `bad_shares`: a secret cannot be put together, or is not its owner's.
    """
    use = revealed.use
    context = mask_context(use.job, use.attempt, use.round, revealed.parties)
    seeds, mask_keys = {}, {}
    for owner in revealed.parties:
        given = {holder: each[owner] for holder, each in shares.items() if owner in each}
        secret = _combined(owner, given, holders, len(use.cohort))
        if owner in revealed.survivors:
            seeds[owner] = secret
            good = seed_commitment(secret, owner=owner, context=context) == commitments[owner]
        else:
            mask_keys[owner] = secret
            good = MaskKey.from_secret(secret).public == raw_mask_key(keys[owner])
        if not good:
            raise ContributionError(owner, BAD_SHARES)
    return Opened(seeds, mask_keys)


def _combined(
    owner: str, shares: Mapping[str, bytes], holders: tuple[str, ...], cohort: int
) -> bytes:
    try:
        threshold = shamir.recovery_threshold(cohort)
        return shamir.combine(shares, holders=holders, threshold=threshold)
    except PrivacyError as error:
        raise ContributionError(owner, BAD_SHARES) from error
