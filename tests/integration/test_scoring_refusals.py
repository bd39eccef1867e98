"""Scoring jobs that must not be scored: each with one thing changed, refused by a typed word.

What is the operator's to check is tried with its own checks off too, so that the node is seen to
refuse by itself. After hostile bytes the node answers the next honest job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from federated.scoring_limits import MOST_INPUT_BYTES
from ledger.encoding import sha256_text
from marketplace.client import ClientError
from marketplace.jobs.tables import Input
from marketplace.scoring import seal
from privacy.ckks.keys import SecretContext
from privacy.ckks.parameters import LINEAR
from privacy.secure_random import random_bytes
from tests.models import FEATURES, MODEL, ROWS, Desk, open_model
from tests.stage import WATCH

FEW = ROWS[:6]
MOST = 20


@pytest.fixture(scope="module", name="desk")
def _desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_model(tmp_path_factory.mktemp("refused"), most_rows=MOST) as desk:
        yield desk


@pytest.fixture(scope="module", name="sealed")
def _sealed(desk: Desk) -> tuple[bytes, bytes]:
    context, columns = seal(desk.buyer.home.folder, FEW, FEATURES, "predictor").inputs
    return context, columns


def submit(desk: Desk, context: bytes, columns: bytes, **changes: Any) -> str:
    """Hand these in, and submit the job that names them; return its id."""
    for each in (context, columns):
        desk.buyer.hand_in(each)
    return named(desk, context, columns, **changes)


def named(desk: Desk, context: bytes, columns: bytes, **changes: Any) -> str:
    parameters = {
        "features": list(FEATURES),
        "rows": len(FEW),
        "context": sha256_text(context),
        "columns": sha256_text(columns),
    }
    return desk.play.job("scoring", parameters=parameters | changes)


def reason(desk: Desk, job: str) -> str:
    """The word with which a job ended; nothing was sent, nothing billed, no use spent."""
    spent = [each["uses_left"] for each in desk.buyer.call("GET", "/agreements")]
    view = desk.end(job)
    assert view["state"] in ("failed", "refused"), view
    history = desk.play.market.app.state.context.log.history
    assert job not in history.completed
    assert job not in history.released
    assert [bill for bill in desk.buyer.call("GET", "/settlements") if bill["job"] == job] == []
    left = [each["uses_left"] for each in desk.buyer.call("GET", "/agreements")]
    assert sum(left) == sum(spent) + 1
    return str(view["error"]["reason"])


def lives_on(desk: Desk) -> None:
    scores = desk.buyer.result(desk.run(FEW))["scores"]
    assert np.abs(np.array(scores) - MODEL.predict(FEW)).max() < 1e-5


@pytest.mark.slow
def test_handed_in_by_hand_the_same_rows_are_scored(desk: Desk, sealed: tuple[bytes, bytes]):
    job = submit(desk, *sealed)
    assert desk.end(job)["state"] == "released"
    assert len(desk.buyer.result(job)["scores"]) == len(FEW)


def test_a_byte_changed_by_the_operator_is_noticed(desk: Desk, sealed: tuple[bytes, bytes]):
    for whole in sealed:
        job = submit(desk, *sealed)
        with desk.play.market.app.state.context.writing() as session:
            stored = session.get_one(Input, (desk.buyer.home.participant(), sha256_text(whole)))
            stored.content = whole[:-1] + bytes([whole[-1] ^ 1])
        assert reason(desk, job) == "bad_input"


def of_another_key(context: bytes, columns: bytes) -> tuple[bytes, bytes]:
    del context
    return SecretContext.generate(LINEAR).public.to_bytes(), columns


def truncated(context: bytes, columns: bytes) -> tuple[bytes, bytes]:
    return context, columns[:-100]


def truncated_key(context: bytes, columns: bytes) -> tuple[bytes, bytes]:
    return context[:-100], columns


def damaged(context: bytes, columns: bytes) -> tuple[bytes, bytes]:
    """In the middle of a ciphertext, where only SEAL can see it."""
    at = len(columns) - 20_000
    return context, columns[:at] + random_bytes(1000) + columns[at + 1000 :]


def damaged_key(context: bytes, columns: bytes) -> tuple[bytes, bytes]:
    at = len(context) - 20_000
    spoilt = context[:at] + random_bytes(1000) + context[at + 1000 :]
    return spoilt, columns.replace(_hex(context), _hex(spoilt))


def _hex(data: bytes) -> bytes:
    return sha256_text(data).partition(":")[2].encode()


def no_columns(context: bytes, columns: bytes) -> tuple[bytes, bytes]:
    del columns
    return context, random_bytes(5000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil", [of_another_key, truncated, truncated_key, damaged, damaged_key, no_columns]
)
def test_what_is_no_input_of_this_job_is_refused_and_the_node_lives_on(
    desk: Desk, sealed: tuple[bytes, bytes], spoil: Callable[[bytes, bytes], tuple[bytes, bytes]]
):
    assert reason(desk, submit(desk, *spoil(*sealed))) == "bad_input"
    lives_on(desk)


@pytest.mark.slow
def test_64_mib_of_noise_are_refused_and_one_byte_more_is_not_taken(
    desk: Desk, sealed: tuple[bytes, bytes]
):
    noise = random_bytes(MOST_INPUT_BYTES)
    assert reason(desk, submit(desk, sealed[0], noise)) == "bad_input"
    with pytest.raises(ClientError) as caught:
        desk.buyer.hand_in(noise + b"x")
    assert caught.value.code == "too_large"
    lives_on(desk)


def test_other_rows_than_are_encrypted_are_not_billed(desk: Desk, sealed: tuple[bytes, bytes]):
    for rows in (len(FEW) - 1, len(FEW) + 1):
        assert reason(desk, submit(desk, *sealed, rows=rows)) == "bad_input"


def test_other_features_than_the_model_has_are_refused(desk: Desk, sealed: tuple[bytes, bytes]):
    job = submit(desk, *sealed, features=["age", "chol", "ratio", "drinks"])
    assert reason(desk, job) == "other_features"
    with pytest.raises(ClientError) as caught:
        submit(desk, *sealed, features=["age", "chol", "ratio"])
    assert caught.value.code == "other_features"


def test_a_job_whose_input_was_not_handed_in_is_refused(desk: Desk, sealed: tuple[bytes, bytes]):
    with pytest.raises(ClientError) as caught:
        named(desk, sealed[0], b"never")
    assert caught.value.code == "no_input"
    with desk.play.market.insecure_operator():
        job = named(desk, sealed[0], b"never")
    assert reason(desk, job) == "no_input"


def test_more_rows_than_agreed_are_refused_before_the_model_is_opened(desk: Desk):
    many = ROWS[: MOST + 1]
    with pytest.raises(ClientError) as caught:
        desk.ask(many)
    assert caught.value.code == "too_many_rows"
    with desk.play.market.insecure_operator(), WATCH.watching(desk.play.files) as opened:
        job = desk.ask(many)
        assert reason(desk, job) == "row_selection_not_allowed"
    assert opened == []
    # The twin: as many as agreed.
    with WATCH.watching(desk.play.files) as opened:
        desk.run(ROWS[:MOST])
    assert opened != []


@pytest.mark.slow
def test_an_agreement_without_a_limit_permits_no_scoring(desk: Desk):
    (seat,) = desk.play.seats
    terms = replace(seat.part.terms, uses=7)
    other = desk.play.stage.agree_apart(seat, terms, {})
    (agreement,) = [each for each in desk.buyer.call("GET", "/agreements") if each["id"] == other]
    with pytest.raises(ClientError, match="fixes no `score`"):
        desk.ask(FEW, agreement=agreement)
    with desk.play.market.insecure_operator():
        assert reason(desk, desk.ask(FEW, agreement=agreement)) == "row_selection_not_allowed"
