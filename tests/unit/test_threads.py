"""A node's sums are the same however many cores its machine has."""

import json
import os
import subprocess
import sys

import pytest

SUMS = """
import hashlib, json, sys
import numpy as np
from threadpoolctl import threadpool_info
from federated.node.threads import keep_to_plan
from federated.tasks.newton import local_step

if sys.argv[1] == "one":
    keep_to_plan()
random = np.random.default_rng(5)
rows = random.normal(size=(20_000, 60))
found = local_step(rows, (random.random(20_000) < 0.5).astype(float), random.normal(size=61))
told = {name: hashlib.sha256(np.asarray(each).tobytes()).hexdigest()
        for name, each in vars(found).items()}
print(json.dumps([told, [each["num_threads"] for each in threadpool_info()]]))
"""


def sums(kept: str, cores: int) -> tuple[dict[str, str], list[int]]:
    """Digests of one node's sums, made in a process of its own, and the threads it had."""
    ran = subprocess.run(
        [sys.executable, "-c", SUMS, kept],
        env=os.environ | {"OPENBLAS_NUM_THREADS": str(cores), "OMP_NUM_THREADS": str(cores)},
        capture_output=True,
        text=True,
        check=True,
    )
    told, threads = json.loads(ran.stdout)
    return told, threads


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_linear_algebra_runs_on_one_thread_and_its_sums_are_the_same(cores: int):
    told, threads = sums("one", cores)
    assert threads
    assert set(threads) == {1}
    assert told == sums("one", 1)[0]


def test_twin_without_it_there_are_as_many_threads_as_the_machine_is_told():
    assert set(sums("many", 2)[1]) == {2}
