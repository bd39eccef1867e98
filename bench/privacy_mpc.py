"""Comparisons on secret shares beside plain Python: a maximum of four parties, a median of thirty.

Every party has a process of its own, as at its node; what they say to each other goes from hand to
hand in this process, unsealed. They work one after the other, so the figure is the work of all of
them together. Starting the processes and loading MPyC is measured apart.
"""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.table import Row, rate
from privacy.mpc.computation import (
    Computation,
    Owner,
    Ranking,
    Value,
    bit_length,
    statistical_bits,
)
from privacy.mpc.party import Party

BOUND = 10**9
UNIT = "computations/s"
RUNS = 5


class BenchError(RuntimeError):
    """Something that was measured gave a wrong answer."""


@dataclass(frozen=True)
class Measured:
    """One computation on shares.

    Attributes:
        outcome: what was opened.
        starting: seconds until every party's process had MPyC loaded and its keys drawn.
        seconds: from then on until all know the outcome.
        rounds: exchanges of parcels.
        sent: bytes in all parcels.
    """

    outcome: list[int]
    starting: float
    seconds: float
    rounds: int
    sent: int


def rows(*, quick: bool = False) -> list[Row]:
    """Computations in a second, and how many plain Python does."""
    runs = 1 if quick else RUNS
    bids = [[907_113], [-44], [907_112], [12]]
    maximum = Ranking((1, 1, 1, 1), BOUND, (Value((0,)), Owner(0)))
    plain = [number for (number,) in bids]
    count = 9 if quick else 30
    cells = [pow(7, at, 1_000_003) - 500_000 for at in range(count)]
    thirds = [sorted(cells[place::3], reverse=True) for place in range(3)]
    middle = tuple(sorted({(count - 1) // 2, count // 2}))
    median = Ranking(tuple(map(len, thirds)), BOUND, (Value(middle),))
    return [
        _row(
            "mpc maximum of 4 parties",
            [together(maximum, bids) for _ in range(runs)],
            maximum,
            [max(plain), plain.index(max(plain))],
            rate(lambda: (max(plain), plain.index(max(plain)))),
        ),
        _row(
            f"mpc median of {count} values",
            [together(median, thirds) for _ in range(runs)],
            median,
            [round(statistics.median(cells) * len(middle))],
            rate(lambda: statistics.median(cells)),
        ),
    ]


def _row(
    name: str, tries: list[Measured], computation: Computation, expected: list[int], plain: float
) -> Row:
    if any(measured.outcome != expected for measured in tries):
        raise BenchError(f"{name}: the outcome is not that of plain numbers")
    best = min(tries, key=lambda measured: measured.seconds)
    details: dict[str, float | str] = {
        "baseline": "plain Python, which shows all numbers to whoever computes",
        "seconds": best.seconds,
        "seconds to start the processes": min(measured.starting for measured in tries),
        "rounds": best.rounds,
        "bytes sent by all": best.sent,
        "comparisons and tests for equality": computation.masked,
        "bits of a number": bit_length(computation),
        "statistical security, bits": statistical_bits(computation),
        "times slower than plain": best.seconds * plain,
    }
    return Row(name, 1 / best.seconds, UNIT, plain, details)


def together(computation: Computation, values: Sequence[Sequence[int]]) -> Measured:
    """Run all parties of one computation on this machine."""
    begun = time.perf_counter()
    rounds = sent = 0
    with ExitStack() as stack:
        parties = [
            stack.enter_context(Party(computation, place, numbers))
            for place, numbers in enumerate(values)
        ]
        boxes = [party.begin() for party in parties]
        started = time.perf_counter()
        while parties[0].outcome is None:
            rounds += 1
            sent += sum(len(parcel) for box in boxes for parcel in box.values())
            boxes = [
                party.hear({peer: box[place] for peer, box in enumerate(boxes) if peer != place})
                for place, party in enumerate(parties)
            ]
        ended = time.perf_counter()
        return Measured(parties[0].outcome, started - begun, ended - started, rounds, sent)
