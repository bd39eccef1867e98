"""An operator that changes a result, seen by the researcher who adds the contributions again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from federated import server_app
from ledger.encoding import canonical, parse
from marketplace.jobs import engine as engines
from marketplace.recompute import ResultError
from privacy.paillier import SecretKey
from tests.stage import LABEL, Play, open_stage, terms

TABLES = {
    name: "\n".join(
        ["chol,age,sick", *(f"{200 + at * 1.5},{40 + at},{at % 2}" for at in range(rows)), ""]
    )
    for name, rows in (("basel", 30), ("bern", 26), ("geneva", 22))
}
JOBS: dict[str, dict[str, Any]] = {
    "statistics": {"columns": ["chol"]},
    "logistic": {"columns": ["chol"], "ridge": 1},
    "encrypted_sum": {"columns": ["age", "chol"]},
}


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, secret: SecretKey) -> Iterator[Play]:
    folder = tmp_path_factory.mktemp("stage")
    with open_stage(
        folder, TABLES, preparation={"label": LABEL}, agreed=terms(uses=999), key=secret
    ) as play:
        yield play


@contextmanager
def database(play: Play) -> Iterator[sqlite3.Connection]:
    """The operator at its own database."""
    connection = sqlite3.connect(play.market.folder / "service" / "rongshu.db", timeout=30)
    yield connection
    connection.commit()
    connection.close()


def tell(play: Play, lie: Callable[[engines.Completed], engines.Completed]) -> Any:
    """Let the coordinator change what the gate then signs and releases."""
    honest = play.market._engine.run

    def run(request: Any, progress: Any) -> engines.Outcome:
        outcome = honest(request, progress)
        return lie(outcome) if isinstance(outcome, engines.Completed) else outcome

    play.market._engine.run = run  # type: ignore[method-assign]
    return honest


@contextmanager
def lying(play: Play, lie: Callable[[engines.Completed], engines.Completed]) -> Iterator[None]:
    honest = tell(play, lie)
    yield
    play.market._engine.run = honest  # type: ignore[method-assign]


@pytest.mark.parametrize("task", JOBS)
def test_an_honest_result_is_the_one_recomputed(play: Play, task: str):
    job = play.run(task, **JOBS[task])
    result = play.researcher.result(job)
    with database(play) as connection:
        (stored,) = connection.execute(
            "SELECT document FROM job_result WHERE job_id = ?", (job,)
        ).fetchone()
    if task == "encrypted_sum":
        expected = sum(40 + at for rows in (30, 26, 22) for at in range(rows))
        assert result["sums"]["age"] == expected
        assert set(parse(stored)) == {"ciphertexts"}
    else:
        assert canonical(result) == stored


@pytest.mark.parametrize("task", ["statistics", "logistic"])
def test_adding_to_the_aggregate_is_noticed(play: Play, monkeypatch: pytest.MonkeyPatch, task: str):
    honest = server_app.add_words

    def adding(*given: Any) -> Any:
        total = honest(*given)
        # The last word is the high one of the last number: a small push, well within its bound.
        total[-1] += np.uint64(1 << 20)
        return total

    with monkeypatch.context() as patch:
        patch.setattr(server_app, "add_words", adding)
        job = play.run(task, **JOBS[task])
    with pytest.raises(ResultError, match=r"lead to|not that of"):
        play.researcher.result(job)


def test_adding_to_the_encrypted_sum_is_noticed(
    play: Play, secret: SecretKey, monkeypatch: pytest.MonkeyPatch
):
    honest = server_app.add_ciphertexts

    def adding(record: Any, contributions: Any, public: Any) -> Any:
        first, *rest = honest(record, contributions, public)
        # Whoever has the public key can add to a sum it cannot read.
        raised = int.from_bytes(first, "big") * (1 + public.n) % public.n**2
        return (raised.to_bytes(len(first), "big"), *rest)

    assert secret.public
    with monkeypatch.context() as patch:
        patch.setattr(server_app, "add_ciphertexts", adding)
        job = play.run("encrypted_sum", **JOBS["encrypted_sum"])
    with pytest.raises(ResultError, match="encrypted sum is not that"):
        play.researcher.result(job)


def test_a_result_that_the_operator_changed_and_signed_is_noticed(play: Play):
    def lie(outcome: engines.Completed) -> engines.Completed:
        column = dict(outcome.result["chol"])
        return replace(outcome, result={"chol": {**column, "count": column["count"] + 1}})

    with lying(play, lie):
        job = play.run("statistics", **JOBS["statistics"])
    with pytest.raises(ResultError, match="not that of the contributions"):
        play.researcher.result(job)


def test_a_document_exchanged_after_the_release_is_noticed(play: Play):
    job = play.run("statistics", **JOBS["statistics"])
    other = play.run("statistics", columns=["age"])
    with database(play) as connection:
        connection.execute(
            "UPDATE job_result SET document = (SELECT document FROM job_result WHERE job_id = ?)"
            " WHERE job_id = ?",
            (other, job),
        )
    with pytest.raises(ResultError, match="not the one that was released"):
        play.researcher.result(job)
    assert set(play.researcher.result(other)) == {"age"}


SPOILS = {
    "one digit of one reply": (
        (
            "UPDATE job_contribution SET reply = CAST(replace(CAST(reply AS TEXT),"
            " '\"round\":1,', '\"round\":1, ') AS BLOB) WHERE job_id = :job AND round = 1"
        ),
        "differs from what a node receipted",
    ),
    "another job's replies": (
        (
            "UPDATE job_contribution SET reply = (SELECT o.reply FROM job_contribution o WHERE"
            " o.job_id = :other AND o.asset_id = job_contribution.asset_id AND"
            " o.round = job_contribution.round) WHERE job_id = :job"
        ),
        "differs from what a node receipted",
    ),
    "another job's requests": (
        (
            "UPDATE job_contribution SET request = (SELECT o.request FROM job_contribution o WHERE"
            " o.job_id = :other AND o.asset_id = job_contribution.asset_id AND"
            " o.round = job_contribution.round) WHERE job_id = :job"
        ),
        "differs from what a node receipted",
    ),
    "a round kept back": (
        "DELETE FROM job_contribution WHERE job_id = :job AND round = 2 AND :other <> ''",
        "keeps back round 2",
    ),
    "a party kept back": (
        (
            "DELETE FROM job_contribution WHERE job_id = :job AND :other <> '' AND asset_id ="
            " (SELECT min(asset_id) FROM job_contribution)"
        ),
        "keeps back round 1",
    ),
}


@pytest.mark.parametrize("what", SPOILS)
def test_contributions_that_were_changed_are_noticed(play: Play, what: str):
    job = play.run("statistics", **JOBS["statistics"])
    other = play.run("statistics", **JOBS["statistics"])
    statement, says = SPOILS[what]
    with database(play) as connection:
        changed = connection.execute(statement, {"job": job, "other": other})
        assert changed.rowcount
    with pytest.raises(ResultError, match=says):
        play.researcher.result(job)
    assert play.researcher.result(other)["chol"]["count"] == 78


def test_an_answer_of_the_service_that_is_no_evidence_is_noticed(play: Play):
    job = play.run("statistics", **JOBS["statistics"])
    # A job ends a moment before its release is in the log; whoever asks for the result waits.
    play.researcher.result(job)
    play.researcher.log.history.released.pop(job)
    with pytest.raises(ResultError, match="no release"):
        play.researcher.result(job)
