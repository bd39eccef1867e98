"""The researcher's recomputation as a pure function: true evidence, and one thing false in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from federated.rounds import Opened
from ledger.encoding import canonical, sha256_text
from ledger.statements import Asset, Job, Receipt, Release
from marketplace.recompute import Evidence, ResultError, read_exchanges, recompute
from tests.stage import Play, open_stage

TABLES = {
    name: "\n".join(["chol", *(str(200 + at) for at in range(rows)), ""])
    for name, rows in (("basel", 9), ("bern", 7), ("geneva", 8))
}


@pytest.fixture(scope="module", name="true")
def _true(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, dict[str, Any], Evidence]:
    with open_stage(tmp_path_factory.mktemp("stage"), TABLES) as play:
        first = play.run("statistics", columns=["chol"])
        second = play.run("statistics", columns=["chol"])
        found = [_evidence(play, job) for job in (first, second)]
    return found[0][0], found[0][1], found[1][0]


def _evidence(play: Play, job: str) -> tuple[Evidence, dict[str, Any]]:
    result = play.researcher.result(job)
    history = play.researcher.log.history
    release = history.released[job].statement
    assert isinstance(release, Release)
    exchanges = read_exchanges(
        play.researcher.call("GET", f"/jobs/{job}/contributions"),
        play.researcher.call("GET", f"/jobs/{job}/openings"),
    )
    statement = history.get(job, Job)
    evidence = Evidence(
        job,
        statement,
        {asset: history.get(asset, Asset) for asset in statement.assets},
        {each: history.get(each, Receipt) for each in release.receipts},
        release,
        exchanges,
    )
    return evidence, result


def test_true_evidence_leads_to_the_result(true: tuple[Evidence, dict[str, Any], Evidence]):
    evidence, result, _ = true
    assert recompute(evidence, result, None) == result


def released(evidence: Evidence, document: object) -> Evidence:
    digest = sha256_text(canonical(document))
    return replace(evidence, release=replace(evidence.release, result=digest))


def without_a_party(evidence: Evidence, _: Evidence) -> Evidence:
    return replace(evidence, receipts=dict(list(evidence.receipts.items())[1:]))


def with_one_party_twice(evidence: Evidence, _: Evidence) -> Evidence:
    first, second, third = evidence.receipts
    receipts = {**evidence.receipts, third: evidence.receipts[first]}
    assert second
    return replace(evidence, receipts=receipts)


def with_a_receipt_too_many(evidence: Evidence, _: Evidence) -> Evidence:
    first = next(iter(evidence.receipts.values()))
    return replace(evidence, receipts={**evidence.receipts, "receipt:again": first})


def with_a_receipt_of_fewer_rounds(evidence: Evidence, _: Evidence) -> Evidence:
    name, first = next(iter(evidence.receipts.items()))
    short = replace(first, contributions=first.contributions[:1])
    return replace(evidence, receipts={**evidence.receipts, name: short})


def with_only_the_first_round(evidence: Evidence, _: Evidence) -> Evidence:
    short = {
        name: replace(receipt, contributions=receipt.contributions[:1])
        for name, receipt in evidence.receipts.items()
    }
    summands = tuple(item for item in evidence.release.contributions if item.round == 1)
    release = replace(evidence.release, contributions=summands)
    return replace(evidence, receipts=short, release=release)


def with_opened(evidence: Evidence, number: int, opened: Opened | None) -> Evidence:
    kept = {at: each for at, each in evidence.exchanges.opened.items() if at != number}
    given = kept if opened is None else {**kept, number: opened}
    return replace(evidence, exchanges=replace(evidence.exchanges, opened=given))


def with_a_seed_changed(evidence: Evidence, _: Evidence) -> Evidence:
    seeds = dict(evidence.exchanges.opened[1].seeds)
    asset = min(seeds)
    seeds[asset] = bytes([seeds[asset][0] ^ 1]) + seeds[asset][1:]
    return with_opened(evidence, 1, Opened(seeds, {}))


def with_a_seed_missing(evidence: Evidence, _: Evidence) -> Evidence:
    seeds = dict(evidence.exchanges.opened[1].seeds)
    del seeds[min(seeds)]
    return with_opened(evidence, 1, Opened(seeds, {}))


def with_a_contributor_said_to_have_left(evidence: Evidence, _: Evidence) -> Evidence:
    seeds = dict(evidence.exchanges.opened[1].seeds)
    return with_opened(evidence, 1, Opened(seeds, {min(seeds): bytes(range(32))}))


def with_another_rounds_seeds(evidence: Evidence, _: Evidence) -> Evidence:
    return with_opened(evidence, 1, evidence.exchanges.opened[2])


def with_an_opening_kept_back(evidence: Evidence, _: Evidence) -> Evidence:
    return with_opened(evidence, 2, None)


def with_another_jobs_rounds(evidence: Evidence, other: Evidence) -> Evidence:
    return replace(evidence, receipts=other.receipts, exchanges=other.exchanges)


def as_another_job(evidence: Evidence, other: Evidence) -> Evidence:
    return replace(evidence, job_id=other.job_id)


def with_other_parameters(evidence: Evidence, _: Evidence) -> Evidence:
    job = replace(evidence.job, parameters={"columns": ["chol"], "rows": "complete", "more": 1})
    return replace(evidence, job=job)


def of_another_version(evidence: Evidence, _: Evidence) -> Evidence:
    return replace(evidence, job=replace(evidence.job, task_version=2))


def of_another_task(evidence: Evidence, _: Evidence) -> Evidence:
    return replace(evidence, job=replace(evidence.job, task="encrypted_sum"))


def with_other_cards(evidence: Evidence, _: Evidence) -> Evidence:
    first, second, *_ = evidence.assets
    swapped = {**evidence.assets, first: replace(evidence.assets[first], measurement={})}
    assert second
    return replace(evidence, assets=swapped)


FALSE: dict[str, tuple[Callable[[Evidence, Evidence], Evidence], str]] = {
    "a party left out": (without_a_party, "different numbers of rounds"),
    "a party counted twice": (with_one_party_twice, "one receipt of each party"),
    "a receipt too many": (with_a_receipt_too_many, "one receipt of each party"),
    "fewer rounds at one": (with_a_receipt_of_fewer_rounds, "differs from what a node receipted"),
    "fewer rounds at all": (with_only_the_first_round, "that this job does not lead to"),
    "a seed changed": (with_a_seed_changed, "not the one that it committed to"),
    "a seed missing": (with_a_seed_missing, "neither survivor nor dropped"),
    "a contributor dropped": (with_a_contributor_said_to_have_left, "both contributed and dropped"),
    "another round's seeds": (with_another_rounds_seeds, "not the one that it committed to"),
    "an opening kept back": (with_an_opening_kept_back, "keeps back round 2"),
    "another job's rounds": (with_another_jobs_rounds, "belongs to another job"),
    "another job": (as_another_job, "belongs to another job"),
    "other parameters": (with_other_parameters, "do not lead to a result"),
    "another version": (of_another_version, "do not lead to a result"),
    "another task": (of_another_task, "secret key is needed"),
    "other data cards": (with_other_cards, "do not lead to a result"),
}


@pytest.mark.parametrize("what", FALSE)
def test_false_evidence_leads_to_an_error(
    true: tuple[Evidence, dict[str, Any], Evidence], what: str
):
    evidence, result, other = true
    change, says = FALSE[what]
    with pytest.raises(ResultError, match=says):
        recompute(change(evidence, other), result, None)


@pytest.mark.parametrize("document", [{}, {"chol": {}}, {"chol": None}, {"x": float("nan")}])
def test_another_document_leads_to_an_error(
    true: tuple[Evidence, dict[str, Any], Evidence], document: dict[str, Any]
):
    evidence, _, _ = true
    with pytest.raises(ResultError):
        recompute(evidence, document, None)
    if document != {"x": document.get("x")}:
        with pytest.raises(ResultError, match="not that of the contributions"):
            recompute(released(evidence, document), document, None)
