"""Keeps a node's linear algebra to the plan's threads: its sums do not depend on its cores.

A matrix product that is cut over two threads may be added up in another order than over four, and
its last bits differ. Results are released to the last bit, and whoever repeats a job on another
machine is to get the same. DuckDB has as many, where it is opened (`federated.node.table`).

    keep_to_plan()      # for the rest of this process
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from federated.plan import THREADS


def keep_to_plan() -> None:
    """Let BLAS and OpenMP run on as many threads as every plan says; for the whole process."""
    threadpool_limits(limits=THREADS)
