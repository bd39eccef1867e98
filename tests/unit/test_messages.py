"""federated.messages: one spelling of each message, and mask keys that serve one use."""

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

from federated.errors import ContributionError, MessageError, PeerKeyError
from federated.messages import (
    MASK_KEY_TYPE,
    Contribution,
    Failure,
    FinishReply,
    FinishRequest,
    KeysReply,
    KeysRequest,
    PublicMaskKey,
    Refusal,
    Reply,
    Request,
    RoundRequest,
    body_digest,
    cohort_digest,
    open_mask_key,
    read_reply,
    read_request,
)
from federated.plan import Question
from ledger.encoding import canonical, parse
from ledger.keys import SigningKey
from ledger.statements import envelope

SERVER_APP = Path(__file__).parents[2] / "federated" / "server_app.py"

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

REQUESTS = (
    st.builds(KeysRequest, TEXT, ORDINAL, ORDINAL, COHORT, OBJECT)
    | st.builds(
        RoundRequest, TEXT, ORDINAL, ORDINAL, OBJECT, st.dictionaries(TEXT, BLOB, max_size=3)
    )
    | st.builds(
        FinishRequest, TEXT, ORDINAL, st.integers(0, 99), st.sampled_from(["completed", "failed"])
    )
)
REPLIES = (
    st.builds(KeysReply, TEXT, BLOB)
    | st.builds(Contribution, TEXT, TEXT, ORDINAL, ORDINAL, WORDS, st.none(), BLOB)
    | st.builds(
        Contribution,
        TEXT,
        TEXT,
        ORDINAL,
        ORDINAL,
        st.none(),
        st.lists(BLOB, min_size=1, max_size=3).map(tuple),
        BLOB,
    )
    | st.builds(FinishReply, BLOB)
    | st.builds(Refusal, TEXT, TEXT, WORD, st.none() | BLOB)
    | st.builds(Failure, TEXT | st.just(""), TEXT | st.just(""), WORD)
)

FINISH = FinishRequest("job:1", 1, 3, "completed")
CONTRIBUTION = Contribution("asset:a", "job:1", 1, 2, bytes(16), None, b"key")


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
    body = RoundRequest("job:1", 1, 1, question, {}).to_bytes()
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
        (RoundRequest("j", 1, 1, {}, {}), {"question": []}, "question"),
        (RoundRequest("j", 1, 1, {}, {}), {"mask_keys": {"a": "AB=="}}, "mask_keys"),
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
        RoundRequest("job:1", 1, 1, {"x": float("nan")}, {}).to_bytes()


def test_errors_do_not_repeat_what_the_message_held():
    with pytest.raises(MessageError) as caught:
        read_request(_edited(FINISH, state="63.5 mmHg"))
    assert "63.5" not in str(caught.value)


def test_the_digest_is_plain_sha256_of_the_body():
    assert body_digest(b"") == (
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def _use(**changes: Any) -> dict[str, Any]:
    use = {"asset": "a", "job": "j", "attempt": 1, "round_number": 2, "cohort": ("a", "b")}
    return {**use, **changes}


def test_a_mask_key_opens_for_its_one_use_and_no_other():
    key = SigningKey.generate("node-a")
    made = PublicMaskKey("a", "j", 1, 2, cohort_digest(["b", "a"]), bytes(range(32)))
    data = made.sign(key)
    assert open_mask_key(data, key.verify_key, **_use()) == made
    others = [
        {"asset": "b"},
        {"job": "k"},
        {"attempt": 2},
        {"round_number": 1},
        {"cohort": ("a", "b", "c")},
    ]
    for change in others:
        with pytest.raises(PeerKeyError):
            open_mask_key(data, key.verify_key, **_use(**change))
    with pytest.raises(PeerKeyError):
        open_mask_key(data, SigningKey.generate("node-a").verify_key, **_use())
    with pytest.raises(PeerKeyError):
        open_mask_key(data[:-1], key.verify_key, **_use())


@pytest.mark.parametrize(
    "change",
    [
        {"public": "AAAA"},
        {"public": 7},
        {"public": ""},
        {"round": 2.5},
        {"attempt": True},
        {"x": 1},
    ],
)
def test_a_malformed_mask_key_is_refused_though_signed(change: dict[str, Any]):
    key = SigningKey.generate("node-a")
    made = PublicMaskKey("a", "j", 1, 2, cohort_digest(["b", "a"]), bytes(range(32)))
    payload = envelope.open_(made.sign(key), MASK_KEY_TYPE, key.verify_key) | change
    with pytest.raises(PeerKeyError):
        open_mask_key(envelope.sign(MASK_KEY_TYPE, payload, key), key.verify_key, **_use())


def test_a_signature_for_another_purpose_is_no_mask_key():
    key = SigningKey.generate("node-a")
    made = PublicMaskKey("a", "j", 1, 2, cohort_digest(["b", "a"]), bytes(range(32)))
    payload = envelope.open_(made.sign(key), MASK_KEY_TYPE, key.verify_key)
    data = envelope.sign("application/vnd.rongshu.receipt.v1+json", payload, key)
    with pytest.raises(PeerKeyError):
        open_mask_key(data, key.verify_key, **_use())


def test_the_cohort_digest_is_of_the_set():
    assert cohort_digest(["a", "b"]) == cohort_digest(["b", "a"])
    assert cohort_digest(["a", "b"]) != cohort_digest(["ab"])


PAGE = (Path(__file__).parents[2] / "federated" / "PROTOCOL.md").read_text("utf-8")
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
    words = re.findall(r'^[A-Z_]+: Final = "(\w+)"', SERVER_APP.read_text("utf-8"), re.MULTILINE)
    assert len(words) == 7
    for word in (*words, *re.findall(r"wrong_\w+", ContributionError.__doc__ or "")):
        assert f"`{word}`" in PAGE, word
