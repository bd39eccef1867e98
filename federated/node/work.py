"""One attempt at one job, in memory: its permit, its mask keys and the questions answered so far.

Lost in a crash, and the attempt with it: mask keys are never written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from federated.errors import PeerKeyError, RefusedError
from federated.messages import PublicMaskKey, RoundRequest, cohort_digest, open_mask_key
from federated.node.guard import Permit
from federated.node.rows import Rows
from federated.plan import Plan, Question
from federated.tasks import Task
from ledger.keys import SigningKey
from privacy.masking import MaskKey


@dataclass
class Work:
    """What a node holds of an attempt while it is under way; `keys` are its own, by round."""

    permit: Permit
    attempt: int
    task: Task
    plan: Plan
    keys: dict[int, MaskKey] = field(default_factory=dict, repr=False)
    rows: Rows | None = field(default=None, repr=False)
    questions: list[Question] = field(default_factory=list)

    def fresh_key(self, number: int, asset: str, key: SigningKey) -> bytes:
        """Make the mask key for a round; return its public half, signed by the node."""
        made = MaskKey.generate()
        self.keys[number] = made
        return PublicMaskKey(
            asset=asset,
            job=self.permit.job_id,
            attempt=self.attempt,
            round=number,
            cohort_digest=cohort_digest(self.permit.job.assets),
            public=made.public,
        ).sign(key)

    def peers(self, request: RoundRequest, own_asset: str) -> dict[str, bytes]:
        """Return the others' mask keys for a round, by asset, each signed by its node.

        Raises:
            RefusedError: `grant_mismatch` for another cohort, `not_proven` for a key that is not
                its node's, or that stands in the place of this node's own.
        """
        cohort = self.permit.job.assets
        if set(request.mask_keys) != set(cohort):
            raise RefusedError("grant_mismatch", "the mask keys are not those of the cohort")
        own = self.keys.get(request.round)
        peers = {}
        for asset in cohort:
            try:
                found = open_mask_key(
                    request.mask_keys[asset],
                    self.permit.node_keys[asset],
                    asset=asset,
                    job=request.job,
                    attempt=request.attempt,
                    round_number=request.round,
                    cohort=cohort,
                )
            except PeerKeyError as error:
                raise RefusedError("not_proven", str(error)) from error
            if asset != own_asset:
                peers[asset] = found.public
            elif own is None or found.public != own.public:
                raise RefusedError("not_proven", "this node's own mask key was replaced")
        return peers
