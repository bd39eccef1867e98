"""How rows stand in slots.

What it decides: which rows of a column share a ciphertext, and in which part of its slots. What it
does not do: encrypt them.

A slot of CKKS is a complex number, and a column may use that:

    SINGLE    a row in each real part; for every kind of model
    PAIRED    two rows, one in the real and one in the imaginary part, wherever a batch is full.
              Real weights act on both alike, so linear predictors cost half the time and bytes
    MOMENTS   a value in the real part and its square in the imaginary part: one addition adds
              up both, and no ciphertext is ever multiplied

Squares do not keep the parts apart, so a network or a polynomial needs SINGLE. Rows that do not
fill a paired batch stand one to a slot: what lies beyond the last row can then be masked.

    cut(10_000, 2048, Packing.PAIRED)      # 4096 and 4096 rows in pairs, 1808 singly
"""

from dataclasses import dataclass
from enum import StrEnum


class Packing(StrEnum):
    """What the parts of a slot hold."""

    SINGLE = "single"
    PAIRED = "paired"
    MOMENTS = "moments"


@dataclass(frozen=True)
class Batch:
    """The rows of one ciphertext of each column.

    Attributes:
        start: The first row.
        rows: How many there are.
        paired: Whether the second half of them stands in imaginary parts; then every slot is full.
    """

    start: int
    rows: int
    paired: bool


def cut(rows: int, slots: int, packing: Packing) -> list[Batch]:
    """Cuts rows into batches.

    Args:
        rows: At least 1.
        slots: Complex numbers in one ciphertext.
        packing: How they stand.
    """
    pairs = rows // (2 * slots) if packing is Packing.PAIRED else 0
    batches = [Batch(at * 2 * slots, 2 * slots, paired=True) for at in range(pairs)]
    singly = range(pairs * 2 * slots, rows, slots)
    return batches + [Batch(start, min(slots, rows - start), paired=False) for start in singly]
