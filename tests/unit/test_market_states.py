"""State machines: only the moves of the tables exist."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.agreements import states as negotiation
from marketplace.errors import TransitionError
from marketplace.jobs import states as job

NEGOTIATION_STATES = (
    "REQUESTED",
    "OFFERED",
    "ACCEPTED",
    "AGREED",
    "VERIFIED",
    "FINALIZED",
    "TERMINATED",
)
# Written down again from the Dataspace Protocol 2025-1, contract negotiation state machine.
DATASPACE_PROTOCOL = {
    "REQUESTED": {"OFFERED", "AGREED", "TERMINATED"},
    "OFFERED": {"REQUESTED", "ACCEPTED", "TERMINATED"},
    "ACCEPTED": {"AGREED", "TERMINATED"},
    "AGREED": {"VERIFIED", "TERMINATED"},
    "VERIFIED": {"FINALIZED", "TERMINATED"},
    "FINALIZED": set(),
    "TERMINATED": set(),
}
JOB_STATES = tuple(job.MOVES)


@pytest.mark.parametrize("before", NEGOTIATION_STATES)
@pytest.mark.parametrize("after", NEGOTIATION_STATES)
def test_a_negotiation_moves_as_the_dataspace_protocol_says(before: str, after: str):
    possible = (before, after) in negotiation.MOVES
    # The one move of the standard that is closed here: both have signed, so only revoke.
    closed = (before, after) == ("VERIFIED", "TERMINATED")
    assert possible == (after in DATASPACE_PROTOCOL[before] and not closed)


@given(
    st.lists(
        st.tuples(st.sampled_from(NEGOTIATION_STATES), st.sampled_from(["researcher", "provider"])),
        max_size=30,
    )
)
def test_no_sequence_of_attempts_leaves_the_protocol(attempts: list[tuple[str, str]]):
    state, history = negotiation.INITIAL, [negotiation.INITIAL]
    for after, role in attempts:
        try:
            negotiation.check(state, after, role)
        except TransitionError:
            continue
        assert after in DATASPACE_PROTOCOL[state]
        state = after
        history.append(state)
    if "FINALIZED" in history:
        # Nobody gets an agreement without both signatures, provider first.
        assert history.index("AGREED") < history.index("VERIFIED") < history.index("FINALIZED")
    assert not set(history[:-1]) & negotiation.TERMINAL


@pytest.mark.parametrize(
    ("before", "after", "role"),
    [
        ("REQUESTED", "OFFERED", "provider"),
        ("OFFERED", "ACCEPTED", "researcher"),
        ("OFFERED", "REQUESTED", "researcher"),
        ("ACCEPTED", "AGREED", "provider"),
        ("AGREED", "VERIFIED", "researcher"),
        ("VERIFIED", "FINALIZED", "provider"),
    ],
)
def test_each_move_belongs_to_one_side(before: str, after: str, role: str):
    negotiation.check(before, after, role)
    other = {"provider": "researcher", "researcher": "provider"}[role]
    with pytest.raises(TransitionError):
        negotiation.check(before, after, other)


def test_an_unknown_state_or_role_moves_nothing():
    for before, after, role in (("?", "OFFERED", "provider"), ("REQUESTED", "OFFERED", "auditor")):
        with pytest.raises(TransitionError):
            negotiation.check(before, after, role)


@given(st.lists(st.sampled_from(JOB_STATES), max_size=30))
def test_a_job_is_released_only_from_running_and_ends_once(attempts: list[str]):
    state, history = job.INITIAL, [job.INITIAL]
    for after in attempts:
        try:
            job.check(state, after)
        except TransitionError:
            assert after not in job.MOVES[state]
            continue
        state = after
        history.append(state)
    if "released" in history:
        assert history == ["requested", "granted", "running", "released"]
    assert not set(history[:-1]) & job.TERMINAL


def test_a_party_completes_only_after_its_grant():
    job.check_party("granted", "completed")
    for before in ("waiting", "completed", "refused", "failed"):
        with pytest.raises(TransitionError):
            job.check_party(before, "completed")
