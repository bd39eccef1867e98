"""Jobs over the API: the operator's checks, grants, receipts, release, cancelling, revoking."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.encoding import b64decode, sha256_text
from ledger.log import Log
from ledger.statements import Receipt, Release
from marketplace.jobs import engine
from tests.drafts import YEAR
from tests.market import PRICE, Market


def refused(market: Market, answer: Any, status: int, code: str, before: dict[str, int]) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert market.counts() == before


def agreement(market: Market) -> dict[str, Any]:
    path = f"/agreements/{market.providers[0].agreement}"
    return dict(market.must(market.get(path, market.researcher), 200))


# The whole way.


def test_a_job_from_request_to_release(market: Market):
    job = market.submit()
    assert market.state(job) == "requested"
    for party in market.providers:
        (asked,) = market.must(market.get("/nodes/requests", party), 200)
        assert (asked["job"], asked["asset"]) == (job, party.asset)
        assert asked["index"] == market.context.entry(job).index
        market.must(market.post("/grants", party, market.grant_statement(party, job)))
        assert market.must(market.get("/nodes/requests", party), 200) == []
    assert market.state(job) == "granted"
    assert market.work() == job
    view = market.must(market.get(f"/jobs/{job}", market.providers[0]), 200)
    assert view["state"] == "released"
    assert {party["state"] for party in view["parties"]} == {"completed"}
    assert view["progress"] == {"round": 1, "done": 3, "of": 3, "step": "moments", "nodes": {}}
    assert market.context.log.findings == []
    assert market.work() is None


def test_a_job_is_asked_of_nobody_before_the_log_shows_it(
    market: Market, monkeypatch: pytest.MonkeyPatch
):
    """Guards: a node that was faster than the checkpoint refused a job as `not_proven`."""
    job, first = market.submit(), market.providers[0]
    index = market.context.entry(job).index
    for size, seen in ((index, []), (index + 1, [job])):
        monkeypatch.setattr(Log, "size", property(lambda _, size=size: size))
        asked = market.must(market.get("/nodes/requests", first), 200)
        assert [each["job"] for each in asked] == seen


def test_the_released_document_is_the_one_that_the_release_names(market: Market):
    job = market.released_job()
    document = market.get(f"/jobs/{job}/result", market.researcher).content
    logged = market.context.log.history.released[job].statement
    assert isinstance(logged, Release)
    assert logged.result == sha256_text(document)
    assert json.loads(document) == {"age": {"mean": 54.5}}
    sent = market.must(market.get(f"/jobs/{job}/contributions", market.researcher), 200)
    digests = {sha256_text(b64decode(item["reply"])) for item in sent}
    assert digests == {item.reply for item in logged.contributions}


def test_the_engine_is_told_where_the_proofs_stand(market: Market):
    job = market.released_job()
    (request,) = market.engine.requests
    assert (request.id, request.index, request.attempt) == (
        job,
        market.context.entry(job).index,
        1,
    )
    assert request.plan["task"] == "statistics"
    for party, member in zip(market.providers, request.cohort, strict=True):
        assert (member.asset, member.agreement) == (party.asset, party.agreement)
        assert member.grant_index == market.context.entry(member.grant).index
        assert member.node_key == party.node_key.verify_key.text


def test_a_result_is_the_researchers_alone(market: Market):
    job = market.released_job()
    for what in ("result", "contributions"):
        assert market.get(f"/jobs/{job}/{what}", market.researcher).status_code == 200
        for caller in (market.providers[0], market.auditor, market.operator):
            assert market.get(f"/jobs/{job}/{what}", caller).status_code == 403
    assert market.get(f"/jobs/{job}", market.auditor).status_code == 200


def test_nothing_is_given_before_the_release(market: Market):
    job = market.submit()
    for what in ("result", "contributions"):
        answer = market.get(f"/jobs/{job}/{what}", market.researcher)
        assert (answer.status_code, answer.json()["code"]) == (409, "not_released")


# The operator's checks, with the same words as the nodes'.


def other_code() -> str:
    return sha256_text(b"other code")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"purpose": "marketing"}, 422, "purpose_not_allowed"),
        ({"code_digest": sha256_text(b"other")}, 422, "code_unknown"),
        ({"preparation": {"complete_rows": False}}, 422, "row_selection_not_allowed"),
        ({"task": "encrypted_sum"}, 422, ""),
        ({"task": "statistic"}, 422, "unknown_task"),
        ({"parameters": {"columns": ["agee"]}}, 422, "unknown_column"),
        ({"parameters": {"columns": ["age"], "typo": 1}}, 422, "unknown_parameter"),
        ({"encryption_key": {"n": "15"}}, 422, "encryption_key"),
    ],
)
def test_a_job_outside_its_terms_is_refused(
    market: Market, changes: dict[str, Any], status: int, code: str
):
    before = market.counts()
    answer = market.post("/jobs", market.researcher, market.job_statement(**changes))
    refused(market, answer, status, code or answer.json()["code"], before)
    market.submit()


def test_too_few_parties_are_refused(market: Market):
    first, others = market.providers[0], market.providers[1:]
    before = market.counts()
    alone = market.job_statement(assets=(first.asset,), agreements=(first.agreement,))
    refused(market, market.post("/jobs", market.researcher, alone), 422, "one_party", before)
    strict = market.agree(first, terms=market.terms(minimum_parties=4))
    before = market.counts()
    few = market.job_statement(agreements=(strict, *(party.agreement for party in others)))
    refused(market, market.post("/jobs", market.researcher, few), 422, "grant_mismatch", before)


def test_after_its_end_an_agreement_serves_no_more(market: Market):
    market.clock.advance(2 * YEAR)
    before = market.counts()
    answer = market.post("/jobs", market.researcher, market.job_statement())
    refused(market, answer, 409, "agreement_expired", before)


def test_the_last_use_is_the_last(market: Market):
    jobs = [market.submit() for _ in range(3)]
    before = market.counts()
    answer = market.post("/jobs", market.researcher, market.job_statement())
    refused(market, answer, 409, "quota_used_up", before)
    view = market.must(
        market.get(f"/agreements/{market.providers[0].agreement}", market.researcher), 200
    )
    assert (view["uses_spent"], view["uses_reserved"], view["uses_left"]) == (0, 3, 0)
    # A job that ends without using it gives its reservation back; one that is released does not.
    market.must(market.post(f"/jobs/{jobs[0]}/cancel", market.researcher, {}), 200)
    market.released_job()
    refused_again = market.post("/jobs", market.researcher, market.job_statement())
    assert refused_again.json()["code"] == "quota_used_up"
    view = market.must(
        market.get(f"/agreements/{market.providers[0].agreement}", market.researcher), 200
    )
    assert (view["uses_spent"], view["uses_reserved"], view["uses_left"]) == (1, 2, 0)


def test_the_same_job_again_reserves_nothing(market: Market):
    body = market.sign(market.job_statement())
    first = market.must(market.post("/jobs", market.researcher, body))
    before = market.counts()
    assert market.must(market.post("/jobs", market.researcher, body)) == first
    assert market.counts() == before


def test_a_job_needs_its_researchers_signature(market: Market):
    before = market.counts()
    statement = market.job_statement()
    forged = market.post("/jobs", market.researcher, statement.sign(market.auditor.key))
    refused(market, forged, 422, "signature_invalid", before)
    stolen = market.post("/jobs", market.providers[0], statement)
    refused(market, stolen, 403, "forbidden", before)


def test_anothers_agreement_serves_nobody_else(market: Market):
    rival = replace(market.researcher, name="rival.example")
    first, market.researcher = market.researcher, rival
    market.enrol(rival)
    statement = market.job_statement(researcher=rival.id)
    before = market.counts()
    refused(market, market.post("/jobs", rival, statement), 409, "agreement_mismatch", before)
    market.researcher = first
    refused(market, market.post("/jobs", rival, market.job_statement()), 403, "not_author", before)
    market.submit()


# An operator that does not check.


def test_without_its_checks_the_operator_takes_what_nodes_must_refuse(
    populated_market: Market, tmp_path: Path
):
    with populated_market.copy_to(tmp_path / "data", insecure=True) as market:
        for changes in (
            {"purpose": "marketing"},
            {"code_digest": other_code()},
            {"preparation": {"complete_rows": False}},
        ):
            job = market.submit(**changes)
            market.grant_all(job)
        for _ in range(3):
            market.submit()
        first = market.providers[0]
        view = market.must(market.get(f"/agreements/{first.agreement}", first), 200)
        assert view["uses_reserved"] == 6
        # Every auditor sees what it did; and signatures are still needed.
        assert len(market.context.log.findings) == 6
        before = market.counts()
        forged = market.job_statement().sign(market.auditor.key)
        answer = market.post("/jobs", market.researcher, forged)
        refused(market, answer, 422, "signature_invalid", before)


# Grants.


def test_a_wrong_grant_is_refused_and_changes_nothing(market: Market):
    first, second = market.providers[:2]
    job, other = market.submit(), market.submit()
    good = market.grant_statement(first, job)
    fewer = replace(good, cohort=(first.asset, second.asset))
    before = market.counts()
    for statement, key, caller, status, code in (
        (good, second.key, first, 422, "signature_invalid"),
        (good, first.key, second, 403, "not_author"),
        (good, first.key, market.researcher, 403, "forbidden"),
        (fewer, first.key, first, 409, "grant_mismatch"),
        (replace(good, agreement=second.agreement), first.key, first, 409, "not_owner"),
        (replace(good, minimum_parties=1), first.key, first, 409, "grant_mismatch"),
    ):
        refused(market, market.post("/grants", caller, statement.sign(key)), status, code, before)
    market.must(market.post("/grants", first, good))
    again = market.post("/grants", first, replace(good, rounds=11))
    assert (again.status_code, again.json()["code"]) == (409, "invalid_transition")
    assert market.must(market.post("/grants", first, good))["id"]
    assert market.state(job) == market.state(other) == "requested"


def test_a_grant_for_a_job_that_ended_is_refused(market: Market):
    job = market.submit()
    market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)
    before = market.counts()
    first = market.providers[0]
    answer = market.post("/grants", first, market.grant_statement(first, job))
    refused(market, answer, 409, "not_waiting", before)


# Refusals and failures.


def refusal(market: Market, job: str, grant: str | None = None, **changes: Any) -> Receipt:
    fields = {"state": "refused", "reason": "purpose_not_allowed"} | changes
    return market.receipt(market.providers[0], job, grant, **fields)


def test_one_refusal_ends_a_job_that_waits(market: Market):
    job, first = market.submit(), market.providers[0]
    market.must(market.post("/receipts", first, refusal(market, job)))
    view = market.must(market.get(f"/jobs/{job}", market.researcher), 200)
    assert (view["state"], view["error"]["reason"]) == ("refused", "purpose_not_allowed")
    reasons = [party["reason"] for party in view["parties"]]
    assert reasons == ["purpose_not_allowed", "stopped", "stopped"]
    assert f"refused: {first.name} (asset:" in view["error"]["message"]
    agreement = market.must(market.get(f"/agreements/{first.agreement}", first), 200)
    assert agreement["uses_left"] == 3
    assert market.work() is None


def test_a_refusal_of_an_unknown_job_is_logged(market: Market):
    unknown = refusal(market, "job:" + "0" * 64, reason="not_proven")
    found = market.must(market.post("/receipts", market.providers[0], unknown))
    assert market.context.entry(found["id"]).index == found["index"]


def test_the_same_receipt_again_changes_nothing(market: Market):
    job = market.released_job()
    (first, *_), before = market.engine.journal.items(), market.counts()
    body = market.sign(first[1])
    found = market.must(market.post("/receipts", market.providers[0], body))
    assert found["id"] in market.context.log.history.by_id
    assert market.counts() == before
    answer = market.post("/receipts", market.providers[0], replace(first[1], rows=99))
    refused(market, answer, 409, "duplicate_receipt", before)
    assert market.state(job) == "released"


def test_a_receipt_needs_its_own_nodes_signature_and_key(market: Market):
    job = market.submit()
    first, second = market.providers[:2]
    statement = refusal(market, job)
    before = market.counts()
    for key, caller, status, code in (
        (first.key, first, 422, "signature_invalid"),
        (second.node_key, first, 422, "signature_invalid"),
        (first.node_key, second, 403, "not_author"),
        (first.node_key, market.researcher, 403, "forbidden"),
    ):
        answer = market.post("/receipts", caller, statement.sign(key))
        refused(market, answer, status, code, before)
    node = market.must(market.post("/keys", first, {"scopes": ["node"]}))["api_key"]
    market.must(market.post("/receipts", node, statement))


def test_nothing_is_completed_without_a_grant(market: Market):
    job, first = market.submit(), market.providers[0]
    before = market.counts()
    other = market.submit()
    grants = market.grant_all(other)
    before = market.counts()
    answer = market.post("/receipts", first, market.receipt(first, job, grants[0]))
    refused(market, answer, 409, "grant_mismatch", before)


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (lambda m: engine.Refused({m.providers[1].asset: "revoked"}), "refused", "revoked"),
        (lambda m: engine.Failed({m.providers[1].asset: "no_reply"}, "", ""), "failed", "no_reply"),
        (lambda _: engine.Failed({}, "separation", "column age"), "failed", "separation"),
    ],
)
def test_what_the_engine_could_not_finish_is_neither_released_nor_billed(
    market: Market, outcome: Callable[[Market], engine.Outcome], state: str, reason: str
):
    market.engine.outcome = outcome(market)
    job = market.submit()
    market.grant_all(job)
    market.work()
    view = market.must(market.get(f"/jobs/{job}", market.researcher), 200)
    assert (view["state"], view["error"]["reason"]) == (state, reason)
    if market.engine.outcome.reasons:
        assert [party["reason"] for party in view["parties"]] == [
            "stopped",
            reason,
            "stopped",
        ]
        assert f"{state}: {market.providers[1].name} (asset:" in view["error"]["message"]
    else:
        assert {party["reason"] for party in view["parties"]} == {"stopped"}
    assert market.get(f"/jobs/{job}/result", market.researcher).status_code == 409
    assert market.must(market.get("/settlements", market.operator), 200) == []
    view = market.must(
        market.get(f"/agreements/{market.providers[0].agreement}", market.researcher), 200
    )
    assert view["uses_left"] == 3


def test_an_engine_that_breaks_fails_the_job_without_its_words(
    market: Market, caplog: pytest.LogCaptureFixture
):
    market.engine.error = RuntimeError("secret path /data/patients.csv")
    job = market.submit()
    market.grant_all(job)
    market.work()
    view = market.must(market.get(f"/jobs/{job}", market.researcher), 200)
    assert view["error"]["reason"] == "internal"
    assert "patients" not in json.dumps(view)
    assert "patients" in caplog.text


@pytest.mark.parametrize(
    "lie",
    [
        lambda o: replace(o, contributions=o.contributions[1:]),
        lambda o: replace(
            o, contributions=(*o.contributions[:-1], replace(o.contributions[-1], reply=b"added"))
        ),
        lambda o: replace(o, receipts=dict([*o.receipts.items()][1:])),
    ],
)
def test_the_gate_holds_back_what_the_receipts_do_not_name(
    market: Market, lie: Callable[[engine.Completed], engine.Completed]
):
    market.engine.lie = lie
    job = market.submit()
    market.grant_all(job)
    market.work()
    view = market.must(market.get(f"/jobs/{job}", market.researcher), 200)
    assert (view["state"], view["error"]["reason"]) == ("failed", "release_refused")
    assert market.get(f"/jobs/{job}/result", market.researcher).status_code == 409
    assert market.must(market.get("/settlements", market.operator), 200) == []
    # The nodes did compute, and nothing of it is released: the operator has to say so.
    first = market.providers[0]
    assert market.must(market.get(f"/agreements/{first.agreement}", first), 200)["uses_spent"] == 0
    market.must(market.post("/offers", first, market.offer_statement(first)))
    assert job in market.context.log.history.revoked


# Cancelling and revoking.


def test_only_its_researcher_cancels(market: Market):
    job = market.submit()
    for caller, status in ((market.providers[0], 403), (market.operator, 403), (None, 401)):
        assert market.post(f"/jobs/{job}/cancel", caller, {}).status_code == status
    rival = replace(market.researcher, name="rival.example")
    first, market.researcher = market.researcher, rival
    market.enrol(rival)
    market.researcher = first
    assert market.post(f"/jobs/{job}/cancel", rival, {}).status_code == 404
    assert market.state(job) == "requested"
    view = market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)
    assert view["state"] == "cancelled"
    assert market.post(f"/jobs/{job}/cancel", market.researcher, {}).status_code == 409


@pytest.mark.parametrize("target", ["agreement", "asset", "grant", "researcher", "provider"])
def test_a_revocation_stops_what_rests_on_it(market: Market, target: str):
    job = market.submit()
    first, researcher = market.providers[0], market.researcher
    grant = market.must(market.post("/grants", first, market.grant_statement(first, job)))["id"]
    issuer = researcher if target == "researcher" else first
    targets = {"researcher": researcher.id, "provider": first.id, "grant": grant}
    revoked = targets.get(target) or getattr(first, target)
    market.must(market.post("/revocations", issuer, market.revocation(issuer, revoked)))
    view = market.must(market.get(f"/jobs/{job}", market.auditor), 200)
    assert (view["state"], view["error"]["reason"]) == ("refused", "revoked")
    others = "revoked" if target == "researcher" else "stopped"
    assert [party["reason"] for party in view["parties"]] == ["revoked", others, others]
    if target in ("researcher", "provider"):
        assert market.get("/me", issuer).status_code == 401
    if target in ("agreement", "asset"):
        before = market.counts()
        answer = market.post("/jobs", researcher, market.job_statement())
        refused(market, answer, 409, "revoked", before)


def test_nobody_revokes_what_is_not_theirs(market: Market):
    first, second = market.providers[:2]
    before = market.counts()
    for caller, statement, status, code in (
        (second, market.revocation(second, first.asset), 409, "not_owner"),
        (second, market.revocation(first, first.asset), 403, "not_author"),
        (market.auditor, market.revocation(market.auditor, first.asset), 403, "forbidden"),
        (market.operator, market.revocation(market.operator, first.agreement), 409, "not_owner"),
    ):
        refused(market, market.post("/revocations", caller, statement), status, code, before)
    lost = market.revocation(market.operator, second.id)
    market.must(market.post("/revocations", market.operator, lost))
    assert market.get("/me", second).status_code == 401


# Money.


def test_a_release_is_billed_to_the_cent(market: Market):
    market.released_job()
    fee = PRICE * 50_000 // 1_000_000
    (bill,) = market.must(market.get("/settlements", market.researcher), 200)
    assert bill["total_cents"] == 3 * PRICE
    assert sum(posting["amount_cents"] for posting in bill["postings"]) == 0
    assert [line["fee_cents"] for line in bill["lines"]] == [fee] * 3
    accounts = market.must(market.get("/accounts", market.providers[0]), 200)
    assert [account["balance_cents"] for account in accounts] == [PRICE - fee]
    (owed,) = market.must(market.get("/accounts", market.researcher), 200)
    assert owed["balance_cents"] == -3 * PRICE
    everything = market.must(market.get("/accounts", market.auditor), 200)
    assert sum(account["balance_cents"] for account in everything) == 0
    market.released_job()
    (owed,) = market.must(market.get("/accounts", market.researcher), 200)
    assert owed["balance_cents"] == -6 * PRICE


def test_bills_are_for_their_parties(market: Market):
    market.released_job()
    rival = replace(market.researcher, name="rival.example")
    market.researcher = rival
    market.enrol(rival)
    assert market.must(market.get("/settlements", rival), 200) == []
    assert market.must(market.get("/accounts", rival), 200) == []
    for caller in (*market.providers, market.auditor, market.operator):
        assert len(market.must(market.get("/settlements", caller), 200)) == 1
