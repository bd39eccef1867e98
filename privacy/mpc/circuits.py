"""The secure computations themselves, on secure arrays of whatever runtime is handed in.

What it decides: what is opened, in this order and nothing else. Every party runs the same lines, so
that the messages of all fit each other; no branch depends on anything but public numbers.
"""

from typing import Any

import numpy as np

from privacy.mpc.computation import Clearing, Computation, Order, Owner, Ranking

Runtime = Any
"""An MPyC runtime; the library has no types."""
Secure = Any
"""A secure array, a number of which nobody knows."""


async def open_outcome(
    runtime: Runtime, computation: Computation, inputs: list[Secure]
) -> list[int]:
    """Runs a computation.

    Args:
        runtime: of this party.
        computation: the same at every party.
        inputs: the secure array of each party that puts numbers in, in the order of the parties.

    Returns:
        What is opened, the same at every party.
    """
    if isinstance(computation, Ranking):
        return await _ranking(runtime, computation, inputs)
    if isinstance(computation, Order):
        return await _order(runtime, inputs)
    return await _clearing(runtime, computation, inputs)


async def _ranking(runtime: Runtime, computation: Ranking, inputs: list[Secure]) -> list[int]:
    """The rank of each number by all pairs; then what stands at the wanted ranks, by 0/1 masks."""
    numbers = runtime.np_concatenate(inputs)
    ranks = _ranks(runtime, computation, numbers)
    wanted, owners = computation.ranks, computation.owners
    total = len(owners)
    # One row for each wanted rank: 1 where the number has it, 0 elsewhere.
    distance = runtime.np_concatenate([ranks - rank for rank in wanted])
    bits = (2 * total).bit_length() + 1
    selected = runtime.np_sgn(distance, l=bits, EQ=True)
    selected = runtime.np_reshape(selected, (len(wanted), total))
    values = runtime.np_matmul(selected, numbers)
    parties = selected @ np.array(owners, dtype=object)
    opened = []
    for opening in computation.openings:
        if isinstance(opening, Owner):
            opened.append(parties[wanted.index(opening.rank)])
            continue
        opened.append(sum(values[wanted.index(rank)] for rank in opening.ranks))
    return [int(number) for number in await runtime.output(opened)]


def _ranks(runtime: Runtime, computation: Ranking, numbers: Secure) -> Secure:
    """How many numbers stand above each; a party's own stand in falling order already."""
    pairs, owners = computation.pairs, computation.owners
    above = np.array(
        [sum(owners[other] == owners[at] for other in range(at)) for at in range(len(owners))],
        dtype=object,
    )
    signs = np.zeros((len(owners), len(pairs)), dtype=object)
    for column, (first, second) in enumerate(pairs):
        # If the first is less, the second stands above it; else, equal or not, the other way round.
        signs[first, column], signs[second, column] = 1, -1
        above[second] += 1
    firsts, seconds = [list(side) for side in zip(*pairs, strict=True)]
    less = runtime.np_less(numbers[firsts], numbers[seconds])
    return signs @ less + above


async def _order(runtime: Runtime, inputs: list[Secure]) -> list[int]:
    """The sign of the difference, and nothing of its size."""
    first, second = inputs
    return [int(sign) for sign in await runtime.output(runtime.np_sgn(first - second))]


async def _clearing(runtime: Runtime, computation: Clearing, inputs: list[Secure]) -> list[int]:
    """At how many prices demand covers supply, and supply at the last of them."""
    total: Secure = sum(inputs[1:], start=inputs[0])
    demand, supply = total[: computation.prices], total[computation.prices :]
    short = runtime.np_less(demand, supply)
    covered = computation.prices - int(await runtime.output(runtime.np_sum(short)))
    if not covered:
        return [0]
    return [covered, int(await runtime.output(supply[covered - 1]))]
