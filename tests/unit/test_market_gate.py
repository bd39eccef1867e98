"""The output gate: each condition, and the same with one thing changed."""

from dataclasses import replace

import pytest

from ledger.encoding import canonical, sha256_text
from ledger.statements import Contribution, Job, JournalPosition, Receipt
from marketplace.errors import ReleaseError
from marketplace.jobs import engine, gate
from tests.market import contribution

ASSETS = tuple("asset:" + digit * 64 for digit in "12")
AGREEMENTS = tuple("agreement:" + digit * 64 for digit in "12")
JOB_ID = "job:" + "a" * 64
RESULT = {"age": {"mean": 54.5}}

JOB = Job(
    researcher="participant:" + "b" * 64,
    name="job",
    task="statistics",
    task_version=1,
    code_digest=sha256_text(b"code"),
    parameters={},
    preparation={},
    purpose="research",
    assets=ASSETS,
    agreements=AGREEMENTS,
    encryption_key=None,
    nonce="n",
    issued=0,
)
SENT = tuple(
    contribution(asset, number, b"ask %d" % number, f"{asset} {number}".encode())
    for asset in ASSETS
    for number in (1, 2)
)


def receipt(asset: str) -> Receipt:
    return Receipt(
        asset=asset,
        job=JOB_ID,
        grant="grant:" + "c" * 64,
        state="completed",
        reason=None,
        code_digest=JOB.code_digest,
        log_size=1,
        rows=1,
        contributions=tuple(
            Contribution(item.round, item.request, item.reply)
            for item in SENT
            if item.asset == asset
        ),
        journal=JournalPosition(0, sha256_text(b"")),
        issued=0,
    )


RECEIPTS = {
    "receipt:" + digit * 64: receipt(asset) for digit, asset in zip("12", ASSETS, strict=True)
}


def by_asset(receipts: dict[str, Receipt]) -> dict[str, str]:
    return {each.asset: name for name, each in receipts.items()}


OUTCOME = engine.Completed(RESULT, SENT, by_asset(RECEIPTS))


def decide(receipts: dict[str, Receipt] = RECEIPTS, outcome: engine.Completed = OUTCOME):
    return gate.decide(JOB_ID, JOB, receipts, outcome, now=5)


def test_a_release_names_receipts_contributions_and_result():
    release, document = decide()
    assert document == canonical(RESULT)
    assert release.result == sha256_text(document)
    assert release.receipts == tuple(RECEIPTS)
    assert len(release.contributions) == 4
    release.from_payload(release.payload())


def without_last() -> dict[str, Receipt]:
    return dict(list(RECEIPTS.items())[:1])


@pytest.mark.parametrize(
    ("receipts", "outcome", "message"),
    [
        (without_last(), replace(OUTCOME, receipts=by_asset(without_last())), "not every party"),
        ({}, replace(OUTCOME, receipts={}), "not every party"),
        (RECEIPTS, replace(OUTCOME, receipts=by_asset(without_last())), "other receipts"),
        (RECEIPTS, replace(OUTCOME, contributions=SENT[:-1]), "contributions"),
        (RECEIPTS, replace(OUTCOME, contributions=(*SENT, SENT[0])), "contributions"),
        (
            RECEIPTS,
            replace(OUTCOME, contributions=(*SENT[:-1], replace(SENT[-1], reply=b"more"))),
            "contributions",
        ),
        (
            RECEIPTS,
            replace(OUTCOME, contributions=(*SENT[:-1], replace(SENT[-1], request=b"other"))),
            "contributions",
        ),
        (
            RECEIPTS,
            replace(OUTCOME, contributions=(*SENT[:-1], replace(SENT[-1], round=3))),
            "contributions",
        ),
        (RECEIPTS, replace(OUTCOME, result={"mean": float("nan")}), "canonical"),
        (RECEIPTS, replace(OUTCOME, result={"text": "x" * (16 << 20)}), "longer"),
    ],
)
def test_one_thing_changed_holds_the_result_back(
    receipts: dict[str, Receipt], outcome: engine.Completed, message: str
):
    decide()
    with pytest.raises(ReleaseError, match=message):
        decide(receipts, outcome)
