"""A shared key for tests: the vector's safe primes, shared anew each time, in a moment.

shares = share_fixed(["a", "b", "c"])
secret = fixed_secret()                 # the same key unshared: what no dealer may keep
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from privacy.paillier import SecretKey
from privacy.paillier.threshold_key import KeyShare, share_out

VECTOR = Path(__file__).parent / "vectors" / "privacy" / "threshold-v1" / "safe-primes.json"


def fixed_primes() -> tuple[int, int]:
    value = json.loads(VECTOR.read_text())
    return int(value["p"], 16), int(value["q"], 16)


def share_fixed(holders: Sequence[str], threshold: int = 2) -> tuple[KeyShare, ...]:
    return share_out(*fixed_primes(), holders, threshold=threshold)


def fixed_secret() -> SecretKey:
    return SecretKey.from_primes(*fixed_primes())
