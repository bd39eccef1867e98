"""What encrypted computing costs, beside the obvious way to use a library and beside no privacy.

Each row's baseline is another way to compute the same, measured in the same run; `details` say
which, and how much slower ours is than computing in the clear. The row with the sidecar needs it
installed (`rongshu sidecar spu install`); the rows of intersections install openmined-psi in an
environment of its own. What cannot be had here has no figure and says why.
"""

from bench import (
    privacy_ckks,
    privacy_intersection,
    privacy_mpc,
    privacy_paillier,
    privacy_sidecar,
    privacy_threshold,
    privacy_vertical,
)
from bench.table import Row

PARTS = (
    privacy_paillier,
    privacy_ckks,
    privacy_intersection,
    privacy_sidecar,
    privacy_threshold,
    privacy_vertical,
    privacy_mpc,
)


def rows(*, quick: bool = False) -> list[Row]:
    """All of them, one after the other.

    Args:
        quick: on little data, to see that it works.
    """
    return [row for part in PARTS for row in part.rows(quick=quick)]
