"""Leases: what the operator signs, and which of them a node follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.errors import LeaseError, LeaseSignatureError
from federated.lease import LEASE_TYPE, Lease, follow, open_lease
from ledger.encoding import MAX_SAFE_INTEGER, canonical, parse
from ledger.statements import envelope
from tests.drafts import key_of

KEY = key_of("operator")
JOB = "job:" + "1" * 64
OTHER = "job:" + "2" * 64
LARGEST = 2**64 - 1
LEASE = Lease(JOB, attempt=2, fence=5, run=LARGEST)
PAYLOAD = {"job": JOB, "attempt": 2, "fence": 5, "run": str(LARGEST)}

leases = st.builds(
    Lease,
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=256),
    st.integers(1, MAX_SAFE_INTEGER),
    st.integers(0, MAX_SAFE_INTEGER),
    st.integers(1, LARGEST),
)


def payload(**changes: Any) -> bytes:
    kept = {name: value for name, value in {**PAYLOAD, **changes}.items() if value is not ...}
    return envelope.sign(LEASE_TYPE, kept, KEY)


def word(data: bytes) -> str:
    with pytest.raises(LeaseError) as refused:
        open_lease(data, KEY.verify_key)
    return refused.value.reason


# --- the format


@given(leases)
def test_what_was_signed_is_read_and_signed_again_with_the_same_bytes(lease: Lease):
    data = lease.sign(KEY)
    assert open_lease(data, KEY.verify_key) == lease
    assert open_lease(data, KEY.verify_key).sign(KEY) == data


def test_these_are_its_fields():
    assert envelope.raw_open(LEASE.sign(KEY)).payload == PAYLOAD
    assert open_lease(payload(), KEY.verify_key) == LEASE


@given(leases, st.data())
def test_any_changed_byte_is_refused(lease: Lease, draw: st.DataObject):
    data = bytearray(lease.sign(KEY))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= draw.draw(st.integers(1, 255))
    assert word(bytes(data)) == "bad_lease"


@given(leases, st.data())
def test_less_or_more_than_the_whole_is_refused(lease: Lease, draw: st.DataObject):
    data = lease.sign(KEY)
    assert word(data[: draw.draw(st.integers(0, len(data) - 1))]) == "bad_lease"
    assert word(data + draw.draw(st.binary(min_size=1, max_size=4))) == "bad_lease"


@pytest.mark.parametrize(
    "changes",
    [
        {"job": ...},
        {"run": ...},
        {"more": 1},
        {"job": 1},
        {"job": ""},
        {"job": "j" * 257},
        {"attempt": 0},
        {"attempt": True},
        {"attempt": 1.5},
        {"attempt": "1"},
        {"fence": -1},
        {"fence": None},
        {"run": 7},
        {"run": "0"},
        {"run": "07"},
        {"run": "-7"},
        {"run": "7 "},
        {"run": "٧"},
        {"run": ""},
        {"run": str(LARGEST + 1)},
        {"run": "9" * 21},
    ],
    ids=str,
)
def test_what_is_no_lease_is_refused_though_the_operator_signed_it(changes: dict[str, Any]):
    assert word(payload(**changes)) == "bad_lease"


def test_signed_for_another_purpose_it_is_refused():
    assert word(envelope.sign(LEASE_TYPE.replace("v1", "v2"), PAYLOAD, KEY)) == "bad_lease"


def test_written_in_another_way_it_is_refused():
    spaced = canonical(parse(LEASE.sign(KEY))).replace(b":", b": ", 1)
    assert word(spaced) == "bad_lease"


@pytest.mark.parametrize("data", [b"", b"{}", b"no lease"])
def test_what_is_no_envelope_is_refused(data: bytes):
    assert word(data) == "bad_lease"


@pytest.mark.parametrize(
    "data",
    [LEASE.sign(key_of("stranger")), envelope.countersign(LEASE.sign(KEY), key_of("stranger"))],
    ids=["another's", "another's too"],
)
def test_of_a_lease_that_others_signed_it_is_told(data: bytes):
    with pytest.raises(LeaseSignatureError) as refused:
        open_lease(data, KEY.verify_key)
    assert refused.value.reason == "bad_lease"


# --- which one is followed


def followed(held: Lease | None, lease: Lease, **request: Any) -> Lease | str:
    asked = {"job": JOB, "attempt": 2, "run": lease.run, **request}
    try:
        return follow(held, lease, **asked)
    except LeaseError as error:
        return error.reason


def test_the_first_lease_is_followed():
    assert followed(None, LEASE) == LEASE


@pytest.mark.parametrize("request_", [{"job": OTHER}, {"attempt": 1}, {"run": 9}], ids=str)
def test_one_for_another_request_is_bad(request_: dict[str, Any]):
    assert followed(None, LEASE, **request_) == "bad_lease"
    assert followed(LEASE, LEASE, **request_) == "bad_lease"


def test_a_higher_fence_is_followed_in_another_run_for_the_same_attempt():
    later = replace(LEASE, fence=6, run=9)
    assert followed(LEASE, later) == later


def test_the_same_fence_goes_on_in_its_run_alone():
    earlier = replace(LEASE, attempt=1)
    assert followed(earlier, LEASE) == LEASE
    assert followed(earlier, replace(LEASE, run=9)) == "stale_lease"


@pytest.mark.parametrize("run", [LARGEST, 9])
def test_a_lower_fence_is_stale_in_any_run(run: int):
    assert followed(LEASE, replace(LEASE, fence=4, run=run)) == "stale_lease"


@given(leases, leases)
def test_what_is_followed_never_goes_back(held: Lease, lease: Lease):
    lease = replace(lease, job=held.job)
    asked = {"job": lease.job, "attempt": lease.attempt, "run": lease.run}
    kept = followed(held, lease, **asked)
    if isinstance(kept, Lease):
        assert kept == lease
        assert (kept.fence, kept.run) == (held.fence, held.run) or kept.fence > held.fence
    else:
        assert kept == "stale_lease"
