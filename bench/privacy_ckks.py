"""Scoring and sums on encrypted columns beside the obvious way to write them with TenSEAL.

Ours is the whole way: encrypt, to bytes, digest, from bytes, compute in the scorer's child process,
back, decrypt. The baselines run in one process and serialise nothing. Making keys and starting
processes is left out on both sides, and stated. Rates are in rows or values each second.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import tenseal as ts

from bench.table import Row, rate
from privacy.ckks.batches import Packing
from privacy.ckks.container import digest
from privacy.ckks.encrypted import EncryptedColumns, EncryptedScores, EncryptedSums
from privacy.ckks.keys import PublicContext, SecretContext
from privacy.ckks.model import LinearModel, Link
from privacy.ckks.parameters import LINEAR, SUMS, Parameters
from privacy.ckks.results import RawMoments, RawScores
from privacy.ckks.roles import Owner, Scorer
from privacy.ckks.sigmoid import sigmoid

Values = npt.NDArray[np.float64]
Details = dict[str, float | str]
Result = TypeVar("Result")

SMALLEST = (8192, [60, 40, 60], 40)
"""The smallest TenSEAL context with which a row's dot product keeps an error below 1e-5."""

TUTORIAL = (8192, [60, 40, 40, 60], 40)
"""The context of TenSEAL's own first examples."""

SAME_DEGREE = (4096, [40, 29, 40], 29)
"""One product and a sum over all slots in the ring that ours uses."""


def rows(*, quick: bool = False) -> list[Row]:
    """Both rows; quick on a tenth of the data."""
    with _roles(LINEAR) as (owner, scorer, setup):
        scoring = _scoring(
            owner, scorer, count=1_000 if quick else 10_000, sample=3 if quick else 40, setup=setup
        )
    with _roles(SUMS) as (owner, scorer, setup):
        moments = _moments(
            owner,
            scorer,
            count=100_000 if quick else 1_000_000,
            sample=2 if quick else 20,
            setup=setup,
        )
    return [scoring, moments]


@contextmanager
def _roles(parameters: Parameters) -> Iterator[tuple[Owner, Scorer, Details]]:
    """Owner and scorer of a fresh key, and what it took to set them up."""
    start = time.perf_counter()
    secret = SecretContext.generate(parameters)
    data = secret.public.to_bytes()
    public = PublicContext.from_bytes(data, sha256=digest(data))
    made = time.perf_counter()
    with Owner.start(secret) as owner, Scorer.start(public) as scorer:
        yield (
            owner,
            scorer,
            {
                "seconds to make keys": made - start,
                "seconds to start two children": time.perf_counter() - made,
                "bytes of public keys": float(len(data)),
            },
        )


def _scoring(owner: Owner, scorer: Scorer, *, count: int, sample: int, setup: Details) -> Row:
    columns = 23
    rng = np.random.default_rng(7)
    values = rng.normal(size=(count, columns)).clip(-8, 8)
    weights = rng.normal(scale=0.4, size=columns)
    model = LinearModel(tuple(weights.tolist()), 0.25, Link.LOGISTIC)
    sent: Details = {}

    def ours() -> RawScores:
        data = owner.encrypt(values, (8.0,) * columns, Packing.PAIRED).to_bytes()
        arrived = EncryptedColumns.from_bytes(data, sha256=digest(data))
        answer = scorer.score(model, arrived).to_bytes()
        sent["bytes of columns"], sent["bytes of scores"] = float(len(data)), float(len(answer))
        return owner.decrypt_scores(EncryptedScores.from_bytes(answer, sha256=digest(answer)))

    raw, seconds = _best(ours)
    plain = sigmoid(model.predict(values))
    some, one_by_one = _best(_row_by_row(SMALLEST, values[:sample], model))
    _, tutorial = _best(_row_by_row(TUTORIAL, values[:sample], model))
    in_the_clear = rate(lambda: sigmoid(model.predict(values)), count=count)
    return Row(
        f"ckks scoring {count}x{columns}",
        count / seconds,
        "rows/s",
        sample / one_by_one,
        {
            "seconds": seconds,
            "largest error of a probability": float(np.abs(raw.probabilities() - plain).max()),
            "baseline": f"TenSEAL row by row, N=8192, measured on {sample} rows",
            "baseline's error": float(np.abs(sigmoid(some) - plain[:sample]).max()),
            "with the tutorial's four primes, rows/s": sample / tutorial,
            "plain numpy, rows/s": in_the_clear,
            "times slower than plain": in_the_clear * seconds / count,
            **sent,
            **setup,
        },
    )


def _moments(owner: Owner, scorer: Scorer, *, count: int, sample: int, setup: Details) -> Row:
    bound = 10.0
    values = np.random.default_rng(8).normal(3, 1, (count, 1)).clip(-bound, bound)
    sent: Details = {}

    def ours() -> RawMoments:
        data = owner.encrypt(values, (bound,), Packing.MOMENTS).to_bytes()
        arrived = EncryptedColumns.from_bytes(data, sha256=digest(data))
        answer = scorer.add_up(arrived).to_bytes()
        sent["bytes of columns"], sent["bytes of sums"] = float(len(data)), float(len(answer))
        return owner.decrypt_sums(EncryptedSums.from_bytes(answer, sha256=digest(answer)))

    raw, seconds = _best(ours)
    slots = SUMS.slots
    some = values[: sample * slots, 0] / bound
    (total, squares), chunk_wise = _best(_chunk_by_chunk(SAME_DEGREE, some))
    in_the_clear = rate(lambda: (values.sum(), values.mean(), values.var()), count=count)
    mean, variance = float(values.mean()), float(values.var())
    return Row(
        f"ckks mean variance {count}",
        count / seconds,
        "values/s",
        len(some) / chunk_wise,
        {
            "seconds": seconds,
            "relative error of the sum": abs(float(raw.sums[0]) / float(values.sum()) - 1),
            "error of the mean": abs(float(raw.means[0]) - mean),
            "error of the variance": abs(float(raw.variances[0]) - variance),
            "baseline": f"TenSEAL chunk by chunk, N=4096, measured on {sample} chunks",
            "baseline's relative error of the sum": abs(total / float(some.sum()) - 1),
            "baseline's relative error of the squares": abs(squares / float((some**2).sum()) - 1),
            "plain numpy, values/s": in_the_clear,
            "times slower than plain": in_the_clear * seconds / count,
            **sent,
            **setup,
        },
    )


def _best(work: Callable[[], Result]) -> tuple[Result, float]:
    """A result, and the seconds of the fastest of three tries: noise only slows a try down."""
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return result, best


def _context(parameters: tuple[int, list[int], int]) -> ts.Context:
    degree, primes, scale_bits = parameters
    context = ts.context(ts.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=primes)
    context.global_scale = 2.0**scale_bits
    context.generate_galois_keys()
    return context


def _row_by_row(
    parameters: tuple[int, list[int], int], values: Values, model: LinearModel
) -> Callable[[], Values]:
    context = _context(parameters)
    weights = list(model.weights)

    def run() -> Values:
        scores = [
            (ts.ckks_vector(context, row.tolist()).dot(weights) + model.intercept).decrypt()[0]
            for row in values
        ]
        return np.array(scores)

    return run


def _chunk_by_chunk(
    parameters: tuple[int, list[int], int], values: Values
) -> Callable[[], tuple[float, float]]:
    context = _context(parameters)
    slots = parameters[0] // 2

    def run() -> tuple[float, float]:
        total, squares = 0.0, 0.0
        for start in range(0, len(values), slots):
            chunk = ts.ckks_vector(context, values[start : start + slots].tolist())
            total += chunk.sum().decrypt()[0]
            squares += (chunk * chunk).sum().decrypt()[0]
        return total, squares

    return run
