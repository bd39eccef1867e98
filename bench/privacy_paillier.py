"""Sums under Paillier, packed and with short exponents, beside plain phe with gmpy2.

Plain phe is what its documentation shows: `public.encrypt(value)` for each value, Python's `sum` of
the encrypted numbers, `secret.decrypt`. It would take minutes for ten thousand values, so its steps
are timed on a sample and scaled up. Both sides have the same key and the best of five tries, since
noise from elsewhere only slows a try down. What one core does is timed in seconds of that core,
which others on the machine do not lengthen; what two processes do, by the clock.
"""

import time
from collections.abc import Callable

import gmpy2
import numpy as np
import numpy.typing as npt
import phe

from bench.table import Row, rate
from privacy.fixedpoint import Scale, encode
from privacy.paillier import (
    EncryptionPool,
    Encryptor,
    Packing,
    SecretKey,
    fold,
    open_total,
    seal,
    seal_for_total,
)
from privacy.paillier.interop import raw_phe_key
from privacy.paillier.randomness import encryptor_of_many

VALUES = 10_000
TRIES = 5
PARTIES = 4


def rows(*, quick: bool = False) -> list[Row]:
    """One row for the sum at each key size, and one for encrypting in two processes.

    Args:
        quick: see that it works, on samples too small to tell much.
    """
    sample = 5 if quick else 200
    keys = {bits: SecretKey.generate(bits) for bits in (2048, 3072)}
    sums = [_sum(secret, bits, sample) for bits, secret in keys.items()]
    return [*sums, _encrypt(keys[2048], sample, 20 if quick else 600)]


def _sum(secret: SecretKey, bits: int, sample: int) -> Row:
    values = np.random.default_rng(20).integers(0, 1 << 40, VALUES)
    theirs, tries = _PlainPhe(secret), []
    # In turns, so that both see the machine in the same mood.
    for part in np.array_split(values[:sample], TRIES):
        tries.append(_packed_sum(secret, values))
        theirs.encrypt(part.tolist())
    seconds, table = min(tries)
    baseline = VALUES * (theirs.encrypt_seconds + theirs.add()) + theirs.decrypt()
    packing = Packing.for_total(secret.public, VALUES)
    plain = rate(values.sum, count=VALUES)
    ciphertexts = packing.plaintexts(secret.public, VALUES)
    return Row(
        name=f"paillier sum {VALUES} {bits}",
        value=VALUES / seconds,
        unit="values/s",
        baseline=VALUES / baseline,
        details={
            "seconds": seconds,
            "seconds of these for the table": table,
            "times phe if the table is reused": baseline / (seconds - table),
            "phe seconds": baseline,
            "baseline measured on": f"{sample} values, gmpy2 {gmpy2.version()}",
            "values a ciphertext": packing.slots(secret.public),
            "bytes": ciphertexts * secret.public.ciphertext_bytes,
            "phe bytes": VALUES * secret.public.ciphertext_bytes,
            "plain values/s": plain,
            "times slower than plain": plain * seconds / VALUES,
            "error": "none, integers",
        },
    )


def _packed_sum(secret: SecretKey, values: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Returns seconds from the values to the opened total, and those of them for the table."""
    start = time.process_time()
    encryptor = Encryptor(secret.public)
    made = time.process_time()
    packing = Packing.for_total(secret.public, len(values))
    words = encode(values, Scale(fraction_bits=0, words=1))
    total = open_total(secret, fold(seal_for_total(encryptor, packing, words)))
    end = time.process_time()
    if total != int(values.sum()):
        raise RuntimeError("the encrypted sum is wrong")
    return end - start, made - start


class _PlainPhe:
    """phe as its documentation shows it, a step at a time; seconds are those of one value."""

    def __init__(self, secret: SecretKey, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        if not phe.util.HAVE_GMP:
            raise RuntimeError("phe has no gmpy2 here, which would flatter the comparison")
        self._private = raw_phe_key(secret)
        self._values: list[int] = []
        self._encrypted: list[phe.EncryptedNumber] = []
        self.encrypt_seconds = float("inf")

    def encrypt(self, values: list[int]) -> None:
        start = self._clock()
        self._encrypted += [self._private.public_key.encrypt(value) for value in values]
        taken = (self._clock() - start) / len(values)
        self.encrypt_seconds = min(self.encrypt_seconds, taken)
        self._values += values

    def add(self) -> float:
        return _seconds(lambda: sum(self._encrypted)) / len(self._encrypted)

    def decrypt(self) -> float:
        total = sum(self._encrypted)
        if self._private.decrypt(total) != sum(self._values):
            raise RuntimeError("phe's sum is wrong")
        return _seconds(lambda: self._private.decrypt(total))


def _encrypt(secret: SecretKey, sample: int, ciphertexts: int) -> Row:
    public = secret.public
    packing = Packing(weight=PARTIES)
    words = np.arange(ciphertexts * packing.slots(public), dtype=np.uint64)
    theirs, two = _PlainPhe(secret, time.perf_counter), float("inf")
    with EncryptionPool(public, processes=2) as pool:
        # The first work waits until both processes have started and made their tables.
        start = time.perf_counter()
        pool.encrypt([0] * 64)
        started = time.perf_counter() - start
        for part in np.array_split(np.arange(sample), TRIES):
            start = time.perf_counter()
            seal(pool, packing, words)
            two = min(two, time.perf_counter() - start)
            theirs.encrypt(part.tolist())
    encryptor = encryptor_of_many(public)
    one = _seconds(lambda: seal(encryptor, packing, words))
    plain = rate(words.copy, count=len(words))
    return Row(
        name="paillier encrypt 2048 two processes",
        value=len(words) / two,
        unit="values/s",
        baseline=1 / theirs.encrypt_seconds,
        details={
            "one process, values/s": len(words) / one,
            "seconds to start": started,
            "values": len(words),
            "values a ciphertext": packing.slots(public),
            "baseline measured on": f"{sample} values, one process, gmpy2 {gmpy2.version()}",
            "plain values/s": plain,
            "times slower than plain": plain * two / len(words),
        },
    )


def _seconds(work: Callable[[], object]) -> float:
    """Returns how long some work takes of one core, at the best of five tries."""
    best = float("inf")
    for _ in range(TRIES):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best
