"""Keeps a node's linear algebra to one thread, so that its sums do not depend on its cores.

A matrix product that is cut over two threads may be added up in another order than over four, and
its last bits differ. Results are released to the last bit, and whoever repeats a job on another
machine is to get the same. DuckDB has one thread too, where it is opened (`federated.node.table`).

    keep_to_one()      # for the rest of this process
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def keep_to_one() -> None:
    """Let BLAS and OpenMP run on the thread that calls them; for the whole process."""
    threadpool_limits(limits=1)
