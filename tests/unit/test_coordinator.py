"""The door through which the marketplace runs a job: what goes in, and each way it comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from federated.coordinator import Assignment, Completed, Failed, Refused, Seat, document, run
from federated.errors import FederatedError, GridError, TaskError
from federated.grid import InProcessGrid
from federated.messages import Beside, Failure, Refusal, RoundRequest, read_request
from federated.node.client_app import make_client_app
from ledger.encoding import b64decode, canonical
from privacy.errors import PrivacyError
from privacy.paillier import SecretKey
from tests.fake_nodes import ASSETS, GRANT, JOB, Bench, FakeNode, Saying, make_bench

RUN = 2**63


def conduct(
    bench: Bench,
    progress: Callable[[Any], None] = lambda _: None,
    **changes: Any,
) -> Any:
    seats = {
        asset: Seat(at, bench.keys[asset].verify_key, GRANT)
        for at, asset in enumerate(bench.nodes, start=1)
    }
    given: dict[str, Any] = {"plan": bench.plan, "seats": seats, "timeout": 30.0, **changes}
    apps = {
        at: (make_client_app(bench.services[asset]), Context(1, at, {}, RecordDict(), {}))
        for at, asset in enumerate(bench.nodes, start=1)
    }
    with InProcessGrid(apps, run_id=RUN) as grid:
        return run(grid, Assignment(JOB, 1, **given), progress)


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


def test_a_completed_job_has_a_document_with_one_canonical_form():
    outcome = conduct(make_bench())
    assert isinstance(outcome, Completed)
    assert document(outcome) == outcome.result
    assert canonical(document(outcome))
    assert set(outcome.receipts) == set(ASSETS)


def test_an_encrypted_job_has_its_sum_as_document(secret: SecretKey):
    bench = make_bench("encrypted_sum")
    for node in bench.nodes.values():
        node.encryption_key = secret.public
    outcome = conduct(bench, encryption_key=secret.public.to_json())
    assert isinstance(outcome, Completed)
    found = document(outcome)
    assert set(found) == {"ciphertexts"}
    assert {len(b64decode(each)) for each in found["ciphertexts"]} == {
        secret.public.ciphertext_bytes
    }


def test_a_key_belongs_to_an_encrypted_task_and_to_no_other(secret: SecretKey):
    with pytest.raises(FederatedError, match="exactly an encrypted task"):
        conduct(make_bench("encrypted_sum"))
    with pytest.raises(FederatedError, match="exactly an encrypted task"):
        conduct(make_bench(), encryption_key=secret.public.to_json())


@pytest.mark.parametrize("key", [{}, {"n": "15"}, {"n": 15}])
def test_what_is_no_key_reaches_no_node(key: dict[str, Any]):
    bench = make_bench("encrypted_sum")
    with pytest.raises(PrivacyError):
        conduct(bench, encryption_key=key)
    assert all(not node.secrets for node in bench.nodes.values())


def test_a_refusal_comes_out_with_its_word_and_releases_the_others():
    bench = make_bench()
    bench.services[ASSETS[2]] = Saying(
        lambda _, __: Refusal(JOB, ASSETS[2], "revoked", None).to_bytes(), bench.nodes[ASSETS[2]]
    )
    outcome = conduct(bench)
    assert isinstance(outcome, Refused)
    assert outcome.reasons == {ASSETS[2]: "revoked"}
    assert bench.nodes[ASSETS[0]].finished == ["failed"]


def test_a_node_that_breaks_makes_the_job_fail_by_name():
    bench = make_bench()

    def broken(_: bytes, __: object) -> bytes:
        raise ValueError("137.0625")

    bench.services[ASSETS[1]] = Saying(broken, bench.nodes[ASSETS[1]])
    outcome = conduct(bench)
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {ASSETS[1]: "internal"}
    assert "137" not in repr(outcome)


def test_what_progress_raises_ends_the_job_at_the_nodes_and_comes_out():
    class LeaseLostError(Exception):
        pass

    bench = make_bench()
    steps: list[str] = []

    def progress(step: Any) -> None:
        steps.append(step.step)
        # Once, as a lost lease does: the worker that took over goes on with the nodes.
        if steps.count("moments") == 2 and step.step == "moments":
            raise LeaseLostError

    with pytest.raises(LeaseLostError):
        conduct(bench, progress)
    assert all(node.finished == ["failed"] for node in bench.nodes.values())


class Overhearing:
    """A node that remembers what came beside each request; it forgets its secrets once if told."""

    def __init__(self, node: FakeNode, *, forgets: bool = False) -> None:
        self.leases: list[tuple[int, bytes | None]] = []
        self._node, self._forgets = node, forgets

    def handle(self, body: bytes, beside: Beside) -> bytes:
        request = read_request(body)
        self.leases.append((request.attempt, beside.lease))
        assert beside.run == RUN
        if self._forgets and isinstance(request, RoundRequest):
            self._forgets = False
            return Failure(JOB, self._node.asset, "restarted").to_bytes()
        return self._node.handle(body)


def overheard(bench: Bench, **changes: Any) -> tuple[Any, list[tuple[int, bytes | None]]]:
    nodes = [Overhearing(node) for node in bench.nodes.values()]
    bench.services = dict(zip(bench.nodes, nodes, strict=True))
    outcome = conduct(bench, **changes)
    return outcome, [lease for node in nodes for lease in node.leases]


def test_every_request_comes_with_the_lease_of_its_run_signed_once():
    signed: list[tuple[int, int]] = []

    def lease(attempt: int, number: int) -> bytes:
        signed.append((attempt, number))
        return b"lease"

    outcome, leases = overheard(make_bench(), lease=lease)
    assert isinstance(outcome, Completed)
    # Keys, shares, two rounds of two steps, and the end.
    assert leases == [(1, b"lease")] * 7 * len(ASSETS)
    assert signed == [(1, RUN)]


def test_each_attempt_has_a_lease_of_its_own():
    bench = make_bench()
    forgetful = Overhearing(bench.nodes[ASSETS[0]], forgets=True)
    bench.services[ASSETS[0]] = forgetful
    conduct(bench, lease=lambda attempt, number: f"{attempt} {number}".encode())
    assert {attempt for attempt, _ in forgetful.leases} == {1, 2}
    for attempt, lease in forgetful.leases:
        assert lease == f"{attempt} {RUN}".encode()


def test_without_one_none_is_sent():
    _, leases = overheard(make_bench())
    assert {lease for _, lease in leases} == {None}


def test_two_assets_at_one_node_are_refused():
    bench = make_bench()
    seats = {asset: Seat(1, bench.keys[asset].verify_key, GRANT) for asset in ASSETS}
    with pytest.raises(GridError, match="same node"):
        conduct(bench, seats=seats)


def test_an_unknown_task_is_refused():
    from dataclasses import replace

    bench = make_bench()
    with pytest.raises(TaskError) as refused:
        conduct(bench, plan=replace(bench.plan, task="average"))
    assert refused.value.reason == "unknown_task"
