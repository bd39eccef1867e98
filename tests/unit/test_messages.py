"""federated.messages: one spelling of each message, and the page that shows each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.errors import ContributionError, MessageError
from federated.messages import (
    Contribution,
    Failure,
    FinishReply,
    FinishRequest,
    KeysReply,
    KeysRequest,
    Refusal,
    Reply,
    Request,
    RoundRequest,
    SharesReply,
    SharesRequest,
    SurvivorsReply,
    SurvivorsRequest,
    UnmaskReply,
    UnmaskRequest,
    body_digest,
    read_reply,
    read_request,
)
from federated.plan import Question
from ledger.encoding import b64encode, canonical, parse

FEDERATED = Path(__file__).parents[2] / "federated"

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
BLOB = st.binary(min_size=1, max_size=40)
ORDINAL = st.integers(1, 2**53 - 1)
WORD = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
COHORT = st.sets(TEXT, min_size=1, max_size=4).map(lambda names: tuple(sorted(names)))
WORDS = st.binary(min_size=1, max_size=5).map(lambda data: data * 8)
COMMITMENT = st.binary(min_size=32, max_size=32)
BLOBS = st.dictionaries(TEXT, BLOB, max_size=3)
PLACE = (TEXT, ORDINAL, ORDINAL)

REQUESTS = (
    st.builds(KeysRequest, TEXT, ORDINAL, ORDINAL, COHORT, OBJECT)
    | st.builds(SharesRequest, *PLACE, BLOBS)
    | st.builds(RoundRequest, *PLACE, ORDINAL, OBJECT, BLOBS)
    | st.builds(SurvivorsRequest, *PLACE, COHORT)
    | st.builds(UnmaskRequest, *PLACE, BLOBS, BLOBS, BLOBS)
    | st.builds(
        FinishRequest, TEXT, ORDINAL, st.integers(0, 99), st.sampled_from(["completed", "failed"])
    )
)
REPLIES = (
    st.builds(KeysReply, TEXT, BLOB)
    | st.builds(SharesReply, TEXT, *PLACE, BLOBS)
    | st.builds(SurvivorsReply, TEXT, *PLACE, BLOB)
    | st.builds(UnmaskReply, TEXT, *PLACE, BLOBS, BLOBS)
    | st.builds(Contribution, TEXT, *PLACE, WORDS, st.none(), COMMITMENT, BLOB)
    | st.builds(
        Contribution,
        TEXT,
        *PLACE,
        st.none(),
        st.lists(BLOB, min_size=1, max_size=3).map(tuple),
        COMMITMENT,
        BLOB,
    )
    | st.builds(FinishReply, BLOB)
    | st.builds(Refusal, TEXT, TEXT, WORD, st.none() | BLOB)
    | st.builds(Failure, TEXT | st.just(""), TEXT | st.just(""), WORD)
)

FINISH = FinishRequest("job:1", 1, 3, "completed")
CONTRIBUTION = Contribution("asset:a", "job:1", 1, 2, bytes(16), None, bytes(32), b"key")


@given(REQUESTS)
def test_a_request_reads_back_as_it_was(message: Any):
    assert read_request(message.to_bytes()) == message
    assert type(message).from_bytes(message.to_bytes()).to_bytes() == message.to_bytes()


@given(REPLIES)
def test_a_reply_reads_back_as_it_was(message: Any):
    assert read_reply(message.to_bytes()) == message
    assert type(message).from_bytes(message.to_bytes()).to_bytes() == message.to_bytes()


@given(REPLIES | REQUESTS, st.data())
def test_no_changed_byte_reads_as_the_same_message(message: Any, data: Any):
    body = bytearray(message.to_bytes())
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MessageError):
        assert type(message).from_bytes(bytes(body)).to_bytes() == bytes(body)


@given(st.binary(max_size=60))
def test_noise_is_refused_with_the_typed_error(noise: bytes):
    with pytest.raises(MessageError):
        read_reply(noise)


def test_floats_travel_in_a_question_exactly():
    question = {"center": [0.1, 1e-300, -2.5e17, 3.0]}
    body = RoundRequest("job:1", 1, 1, 1, question, {}).to_bytes()
    read = read_request(body)
    assert isinstance(read, RoundRequest)
    assert read.question == question


def _edited(message: Any, **changes: Any) -> bytes:
    return canonical({**parse(message.to_bytes()), **changes})


@pytest.mark.parametrize(
    ("message", "changes", "named"),
    [
        (FINISH, {"extra": 1}, "1 unknown keys"),
        (FINISH, {"type": "finish-request/v2"}, "known type"),
        (FINISH, {"rounds": True}, "rounds"),
        (FINISH, {"rounds": -1}, "rounds"),
        (FINISH, {"attempt": 0}, "attempt"),
        (FINISH, {"attempt": 1.5}, "attempt"),
        (FINISH, {"state": "maybe"}, "state"),
        (FINISH, {"state": ["completed"]}, "state"),
        (FINISH, {"job": ""}, "job"),
        (FINISH, {"job": "x" * 257}, "job"),
        (KeysRequest("j", 1, 1, ("a", "b"), {}), {"cohort": ["b", "a"]}, "cohort"),
        (KeysRequest("j", 1, 1, ("a", "b"), {}), {"cohort": ["a", "a"]}, "cohort"),
        (KeysRequest("j", 1, 1, ("a", "b"), {}), {"cohort": []}, "cohort"),
        (RoundRequest("j", 1, 1, 1, {}, {}), {"question": []}, "question"),
        (RoundRequest("j", 1, 1, 1, {}, {}), {"mask_keys": {"a": "AB=="}}, "mask_keys"),
        (RoundRequest("j", 1, 1, 1, {}, {}), {"first": 0}, "first"),
        (RoundRequest("j", 1, 1, 1, {}, {}), {"type": "round-request/v1"}, "known type"),
        (SharesRequest("j", 1, 1, {}), {"mask_keys": {"": "AAAA"}}, "mask_keys"),
        (SurvivorsRequest("j", 1, 1, ("a",)), {"survivors": ["b", "a"]}, "survivors"),
        (SurvivorsRequest("j", 1, 1, ("a",)), {"survivors": []}, "survivors"),
        (UnmaskRequest("j", 1, 1, {}, {}, {}), {"lists": []}, "lists"),
        (UnmaskRequest("j", 1, 1, {}, {}, {}), {"boxes": {"a": ""}}, "boxes"),
        (UnmaskRequest("j", 1, 1, {}, {}, {}), {"mask_keys": []}, "mask_keys"),
    ],
)
def test_a_request_outside_its_form_is_refused_by_field(message: Any, changes: Any, named: str):
    read_request(message.to_bytes())
    with pytest.raises(MessageError, match=named):
        read_request(_edited(message, **changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"words": "AAAA"}, "whole 64-bit words"),
        ({"words": None}, "either words or ciphertexts"),
        ({"ciphertexts": ["AAAA"]}, "either words or ciphertexts"),
        ({"words": None, "ciphertexts": []}, "ciphertexts"),
        ({"next_mask_key": ""}, "next_mask_key"),
        ({"seed_commitment": b64encode(bytes(31))}, "32 bytes"),
        ({"seed_commitment": None}, "seed_commitment"),
    ],
)
def test_a_contribution_outside_its_form_is_refused_by_field(changes: Any, named: str):
    read_reply(CONTRIBUTION.to_bytes())
    with pytest.raises(MessageError, match=named):
        read_reply(_edited(CONTRIBUTION, **changes))


def test_a_missing_key_is_named():
    value = parse(FINISH.to_bytes())
    del value["rounds"]
    with pytest.raises(MessageError, match="lacks rounds"):
        read_request(canonical(value))


def test_a_reply_is_no_request_and_the_other_way_round():
    with pytest.raises(MessageError):
        read_request(CONTRIBUTION.to_bytes())
    with pytest.raises(MessageError):
        read_reply(FINISH.to_bytes())


@pytest.mark.parametrize("text", ["patient 7 has 63.5", "Internal", "", "a" * 65])
def test_a_refusal_is_one_word_and_no_sentence(text: str):
    Refusal("job:1", "asset:a", "revoked", None).to_bytes()
    with pytest.raises(MessageError, match="reason"):
        Refusal("job:1", "asset:a", text, None).to_bytes()


def test_nothing_leaves_that_no_peer_would_read():
    with pytest.raises(MessageError, match="state"):
        dataclasses.replace(FINISH, state="perhaps").to_bytes()
    with pytest.raises(MessageError, match="not finite"):
        RoundRequest("job:1", 1, 1, 1, {"x": float("nan")}, {}).to_bytes()


def test_errors_do_not_repeat_what_the_message_held():
    with pytest.raises(MessageError) as caught:
        read_request(_edited(FINISH, state="63.5 mmHg"))
    assert "63.5" not in str(caught.value)


def test_the_digest_is_plain_sha256_of_the_body():
    assert body_digest(b"") == (
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


PAGE = (FEDERATED / "PROTOCOL.md").read_text("utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def _on_the_wire(example: str) -> bytes:
    """Undoes what makes the page readable: the layout, and `…` for the rest of an id or base64."""
    return canonical(json.loads(example.replace("…", "")))


def test_the_page_shows_every_message_and_each_example_reads():
    shown = set()
    for example in EXAMPLES:
        body = _on_the_wire(example)
        try:
            shown.add(type(read_request(body)))
        except MessageError:
            shown.add(type(read_reply(body)))
    assert shown == {*get_args(Request), *get_args(Reply)}


def test_the_questions_on_the_page_are_questions():
    requests = [json.loads(e.replace("…", "")) for e in EXAMPLES if '"question"' in e]
    assert [Question.from_json(each["question"]).words for each in requests] == [4]


def test_the_page_explains_every_field_and_every_word_of_the_coordinator():
    for kind in (*get_args(Request), *get_args(Reply)):
        for item in dataclasses.fields(kind):
            assert f"`{item.name}`" in PAGE, item.name
    words = [
        word
        for name in ("ending", "exchange", "relay", "server_app", "opening")
        for word in re.findall(
            r'^[A-Z_]+: Final = "(\w+)"',
            (FEDERATED / f"{name}.py").read_text("utf-8"),
            re.MULTILINE,
        )
    ]
    assert len(words) == 13
    for word in (*words, *re.findall(r"wrong_\w+", ContributionError.__doc__ or "")):
        assert f"`{word}`" in PAGE, word
