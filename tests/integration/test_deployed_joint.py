"""Joint jobs between processes: long replies, a new operator, a node that dies in the middle."""

from __future__ import annotations

import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from federated.fleet_key import FleetKey
from marketplace.fleet.proxy import REPLY
from tests.deployed import Town, open_town, party, terms_of, until
from tests.integration.test_vertical_job import ASKED, COMMON, TABLES, expected
from tests.joint import csv_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

COUNT = 60_000
"""So many identifiers, masked and in base64, are more than the 2 MiB of other requests."""

LISTS = {
    "north": csv_text([{"id": at} for at in range(COUNT)]),
    "south": csv_text([{"id": at} for at in range(COUNT - 500, 2 * COUNT - 500)]),
}
MATCH = {"columns": {"id": []}, "minimum_size": 10, "minimum_intersection": 10, "monthly": 999}


@pytest.fixture(scope="module", name="town")
def _town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("joint")
    agreed = terms_of(tasks=("intersection", "vertical"))
    with open_town(folder, {}, rejoin_seconds=4) as town:
        for name, table in (LISTS | TABLES).items():
            file = folder / f"{name}.csv"
            file.write_text(table)
            town.join(name, file, agreed, preparation={"match": MATCH})
        yield town


@pytest.fixture(autouse=True)
def _all_is_well(town: Town) -> Iterator[None]:
    yield
    town.must_be_well()


def submit(town: Town, task: str, names: Any, **parameters: Any) -> str:
    """Submit a job over some of the providers alone."""
    every = town.agreements
    chosen = {town.nodes[name].asset for name in names}
    town.agreements = {asset: found for asset, found in every.items() if asset in chosen}
    try:
        return town.submit(task, preparation={"match": MATCH}, **parameters)
    finally:
        town.agreements = every


def submit_fit(town: Town) -> str:
    # A job's assets are in the order in which the providers joined: the last one only computes.
    return submit(town, "vertical", TABLES, **ASKED)


def must_be_right(town: Town, job: str) -> None:
    view = town.wait(job, 240)
    assert view["state"] == "released", (view, town.said())
    found = town.researcher.result(job)
    weights = np.array([found["intercept"], *found["coefficients"].values()])
    assert np.abs(weights - expected()).max() < 2e-3
    assert found["rows"] == COMMON.stop - COMMON.start


def in_the_middle(town: Town, job: str) -> None:
    until(lambda: town.researcher.job(job)["progress"].get("round", 0) > 10, "round 11", 120)


def test_lists_longer_than_other_requests_meet(town: Town):
    job = submit(town, "intersection", LISTS, outcome="size")
    view = town.wait(job)
    assert view["state"] == "released", (view, town.said())
    assert town.researcher.result(job)["size"] == 500


def test_a_reply_that_is_longer_than_the_service_takes_ends_the_job_by_name(town: Town):
    with town.served_with(max_reply_bytes=1 << 20):
        job = submit(town, "intersection", LISTS, outcome="size")
        view = town.wait(job)
    assert view["state"] == "failed", (view, town.said())
    assert view["error"]["reason"] == "reply_too_long"
    assert any("RONGSHU_MAX_REPLY_BYTES" in text for text in town.said().values())


def test_a_fit_over_three_machines_is_the_pooled_one(town: Town):
    must_be_right(town, submit_fit(town))


def test_an_operator_that_is_killed_carries_on_where_it_was(town: Town):
    job = submit_fit(town)
    in_the_middle(town, job)
    assert town.market.service is not None
    town.market.service.popen.kill()
    town.market.service.popen.wait()
    town.market.start_service()
    must_be_right(town, job)


def test_a_node_that_dies_ends_the_job_and_is_named(town: Town):
    before, job = town.uses("spent"), submit_fit(town)
    in_the_middle(town, job)
    os.kill(town.nodes["clinic"].process.pid, signal.SIGKILL)
    view = town.wait(job)
    assert view["state"] == "failed", (view, town.said())
    assert party(town, view, "clinic")["reason"] == "no_reply"
    assert town.uses("spent") == before
    # Started again, it takes part in the next one.
    town.nodes["clinic"].process.popen.wait()
    town.nodes["clinic"].start()
    must_be_right(town, submit_fit(town))


def test_a_long_body_is_read_only_for_the_key_of_a_node_that_enrolled(town: Town):
    def push(key: FleetKey | None, body: bytes) -> httpx.Response:
        named = "" if key is None else b64encode(key.public).decode()
        headers = {"flwr-public-key": named, "content-type": "application/protobuf"}
        return town.market.http().post(f"/v1/fleet/{REPLY}", content=body, headers=headers)

    long, short = bytes(3 << 20), bytes(10)
    known = town.nodes["north"].home.fleet_key()
    # What is passed on the SuperLink refuses: no signature comes with it.
    unsigned = (400, 401)
    for stranger in (None, FleetKey.generate()):
        assert push(stranger, long).status_code == 403
        assert push(stranger, short).status_code in unsigned
    assert push(known, long).status_code in unsigned
    assert push(known, bytes(65 << 20)).status_code == 413
