"""What crosses to a caller when something is wrong."""

import json
from collections.abc import Iterator

import httpx
import pytest

from marketplace.catalog import service as catalog
from tests.market import Market


def test_an_unexpected_error_crosses_as_a_number_alone(
    market: Market, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object) -> None:
        raise RuntimeError("password=hunter2 in /srv/secret.db")

    monkeypatch.setattr(catalog, "cards", broken)
    answer = market.get("/assets")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == "internal"
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    assert "hunter2" in caplog.text
    assert body["detail"].rpartition(" ")[2] in caplog.text


def test_a_full_transaction_is_undone_by_an_unexpected_error(
    market: Market, monkeypatch: pytest.MonkeyPatch
):
    before = market.counts()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("disk")

    monkeypatch.setattr("ledger.log.Log.submit", broken)
    assert market.post("/jobs", market.researcher, market.job_statement()).status_code == 500
    assert market.counts() == before
    monkeypatch.undo()
    market.submit()


def test_a_request_that_is_no_json_says_where(market: Market):
    answer = market.http.post(
        "/v1/assets",
        headers=market.headers(market.providers[0]) | {"content-type": "application/json"},
        content=b'{"statement": ',
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_refused_input_is_not_repeated(market: Market):
    body = {"code": ["rse_secret"], "statement": {}}
    answer = market.post("/participants", None, body)
    assert answer.status_code == 422
    assert "rse_secret" not in answer.text
    assert "body.code" in answer.json()["detail"]


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/assets/x", 422)])
def test_unknown_paths_are_problems_too(market: Market, path: str, status: int):
    answer = market.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"title", "detail", "code"}


def test_a_wrong_method_is_a_problem_too(market: Market):
    answer = market.http.put("/v1/assets")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def limited(market: Market) -> int:
    return market.settings.max_body_bytes


def test_a_body_over_the_limit_is_refused(market: Market):
    before = market.counts()
    big = json.dumps({"statement": {"payload": "x" * limited(market)}}).encode()
    headers = market.headers(market.providers[0]) | {"content-type": "application/json"}
    answer = market.http.post("/v1/assets", headers=headers, content=big)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert market.counts() == before


def test_a_streamed_body_over_the_limit_is_refused(market: Market):
    before = market.counts()

    def stream() -> Iterator[bytes]:
        yield b'{"statement": {"payload": "'
        for _ in range(limited(market) // 65536 + 1):
            yield b"x" * 65536
        yield b'"}}'

    headers = market.headers(market.providers[0]) | {"content-type": "application/json"}
    request = market.http.build_request("POST", "/v1/assets", headers=headers, content=stream())
    assert "content-length" not in request.headers
    # The in-process transport wants whole bodies; what matters is that no length is announced.
    whole = httpx.Request("POST", request.url, headers=request.headers, content=b"".join(stream()))
    del whole.headers["content-length"]
    answer = market.http.send(whole)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert market.counts() == before


def test_a_body_just_under_the_limit_is_read(market: Market):
    text = json.dumps({"statement": {"payload": ""}})
    padding = "x" * (limited(market) - len(text))
    body = json.dumps({"statement": {"payload": padding}}).encode()
    assert len(body) == limited(market)
    headers = market.headers(market.providers[0]) | {"content-type": "application/json"}
    answer = market.http.post("/v1/assets", headers=headers, content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "statement_invalid")


def test_secrets_are_not_in_what_objects_show(market: Market):
    shown = repr(market.context) + repr(market.context.operator_key)
    assert market.operator.api_key not in shown
    assert market.settings.operator_key.read_text().strip() not in shown
