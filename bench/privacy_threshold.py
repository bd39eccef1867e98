"""Opening a sum under a key that holders share, beside opening it with the whole secret key.

The same column of full ciphertexts is opened both ways, under the same modulus. Of ours, the time
is that of the researcher, who verifies the parts of two holders and combines them; what each holder
spends on its part, and the dealer on the primes, stands in the details. Seconds are those of one
core, which others on the machine do not lengthen; primes are luck, so theirs are a mean.
"""

import json
import time
from collections.abc import Callable

import numpy as np

from bench.table import Row
from privacy.paillier import (
    Packing,
    Quorum,
    SecretKey,
    decrypt_partially,
    encryptor_for,
    open_column,
    open_column_together,
    seal,
)
from privacy.paillier.safe_primes import draw_safe_prime
from privacy.paillier.threshold_key import share_out

PARTIES = 4
TRIES = 5
HOLDERS = ("a", "b", "c")


def rows(*, quick: bool = False) -> list[Row]:
    """One row at each key size.

    Args:
        quick: see that it works, at the smaller size alone and with two primes.
    """
    sizes = ((2048, 2),) if quick else ((2048, 8), (3072, 6))
    return [_opened(bits, primes) for bits, primes in sizes]


def _opened(bits: int, number: int) -> Row:
    start = time.process_time()
    primes = [draw_safe_prime(bits // 2) for _ in range(number)]
    drawing = (time.process_time() - start) / number
    shares = share_out(primes[0], primes[1], HOLDERS)
    secret = SecretKey.from_primes(primes[0], primes[1])
    key, packing = shares[0].key, Packing(weight=PARTIES)
    words = np.random.default_rng(9).integers(
        0, 1 << 64, packing.slots(key.public), dtype=np.uint64
    )
    column = seal(encryptor_for(key.public), packing, words)
    parts = tuple(decrypt_partially(share, column.ciphertexts) for share in shares[:2])
    quorum = Quorum(key, parts)
    wrong = int(np.count_nonzero(open_column_together(quorum, column) != words))
    ours = _seconds(lambda: open_column_together(quorum, column))
    whole = _seconds(lambda: open_column(secret, column))
    part = _seconds(lambda: decrypt_partially(shares[2], column.ciphertexts))
    return Row(
        name=f"threshold opening {bits}",
        value=1 / ours,
        unit="ciphertexts/s",
        baseline=1 / whole,
        details={
            "seconds": ours,
            "seconds with the secret key": whole,
            "times slower than the secret key": ours / whole,
            "seconds of each holder": part,
            "words a ciphertext": len(words),
            "bytes of a key": len(json.dumps(key.to_json())),
            "bytes of a part": len(json.dumps(parts[0].to_json())),
            "seconds for a safe prime": drawing,
            "safe primes drawn": number,
            "error": "none, integers" if not wrong else f"{wrong} words differ",
        },
    )


def _seconds(work: Callable[[], object]) -> float:
    """Return the least seconds of this core that some tries took."""
    tries = []
    for _ in range(TRIES):
        start = time.process_time()
        work()
        tries.append(time.process_time() - start)
    return min(tries)
