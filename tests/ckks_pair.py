"""An owner and a scorer with running children, for tests of `privacy.ckks`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from privacy.ckks.encrypted import EncryptedScores
from privacy.ckks.keys import SecretContext
from privacy.ckks.parameters import Parameters
from privacy.ckks.roles import Owner, Scorer


@dataclass(frozen=True)
class Pair:
    """Both sides of one key."""

    secret: SecretContext
    owner: Owner
    scorer: Scorer

    def all_slots(self, scores: EncryptedScores) -> np.ndarray:
        """What an owner sees who does not stop at the last row, nor at real parts; complex128."""
        scales = {"least_scale_bits": 1, "most_scale_bits": 60}
        return self.owner._decrypt(scores.bodies, scales).reshape(-1) * scores.factor


@contextmanager
def pair(parameters: Parameters) -> Iterator[Pair]:
    """A fresh key with both roles."""
    secret = SecretContext.generate(parameters)
    with Owner.start(secret) as owner, Scorer.start(secret.public) as scorer:
        yield Pair(secret, owner, scorer)
