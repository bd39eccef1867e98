"""What an agreement says of the key of an encrypted sum, and what a job's key lacks of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federated.errors import PreparationError, RefusedError
from federated.key_terms import SharedKey
from federated.node.guard import Ask, Limits, Spent, decide
from federated.preparation import Preparation
from privacy.paillier import SecretKey
from tests.dealt import fixed_secret, share_fixed
from tests.drafts import CODE
from tests.world import World

ALBA, BRUNO, CARLA, DORA = ("participant:" + letter * 64 for letter in "abcd")
AGREED = {"threshold": 2, "holders": [ALBA, BRUNO, CARLA]}


def shared(*holders: str, threshold: int = 2) -> dict[str, Any]:
    return share_fixed(holders, threshold)[0].key.to_json()


@pytest.fixture(scope="module", name="secret")
def _secret() -> SecretKey:
    return fixed_secret()


@pytest.mark.parametrize("holders", [(ALBA, BRUNO, CARLA), (CARLA, ALBA)])
def test_a_key_that_the_named_share_lacks_nothing(holders: tuple[str, ...]):
    assert SharedKey.parse(AGREED).missing(shared(*holders)) == ""
    assert SharedKey.parse(AGREED).missing(shared(*holders, threshold=len(holders))) == ""


def test_a_key_of_one_party_is_missing_its_holders(secret: SecretKey):
    assert "holders share" in SharedKey.parse(AGREED).missing(secret.public.to_json())


def test_a_key_that_fewer_open_is_not_enough():
    three = SharedKey.parse({**AGREED, "threshold": 3})
    assert "no fewer than 3" in three.missing(shared(ALBA, BRUNO, CARLA))
    assert three.missing(shared(ALBA, BRUNO, CARLA, threshold=3)) == ""


def test_a_holder_that_nobody_agreed_on_is_named():
    assert DORA in SharedKey.parse(AGREED).missing(shared(ALBA, BRUNO, DORA))


@pytest.mark.parametrize(
    "key",
    [
        None,
        {"n": "15"},
        {"n": "15", "holders": []},
        {"n": "15", "holders": [], "threshold": 2},
        {"n": "15", "holders": ALBA, "threshold": 2},
        {"n": "15", "holders": [{"holder": ALBA}, {"holder": 7}], "threshold": 2},
        {"holders": [{"holder": ALBA}], "threshold": "2"},
        {"holders": [{"holder": ALBA}], "threshold": True},
    ],
)
def test_what_is_no_key_lacks_something(key: Any):
    assert SharedKey.parse(AGREED).missing(key)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "a table"),
        ({}, "shared_key.holders: a list"),
        ({**AGREED, "holders": ALBA}, "a list"),
        ({**AGREED, "holders": [ALBA, 7]}, "no participant"),
        ({**AGREED, "holders": [ALBA, "Bruno"]}, "no participant"),
        ({**AGREED, "holders": [ALBA, "asset:" + "b" * 64]}, "no participant"),
        ({**AGREED, "holders": [ALBA, ALBA]}, "twice"),
        ({**AGREED, "holders": [ALBA]}, "from 2 to 16"),
        ({**AGREED, "holders": []}, "from 2 to 16"),
        ({**AGREED, "threshold": 4}, "from 4 to 16"),
        ({**AGREED, "threshold": 1}, "from 2 up"),
        ({**AGREED, "threshold": True}, "from 2 up"),
        ({**AGREED, "holder": [ALBA]}, "shared_key.holder: unknown key"),
    ],
)
def test_terms_that_cannot_be_meant_are_refused(given: Any, says: str):
    with pytest.raises(PreparationError, match=says):
        Preparation.parse({"shared_key": given})


def test_they_read_back_in_any_order_and_without_them_there_is_no_key():
    some = Preparation.parse({"shared_key": AGREED})
    assert Preparation.parse(some.to_json()) == some
    assert Preparation.parse({"shared_key": {"holders": [CARLA, ALBA, BRUNO]}}) == some
    assert "shared_key" not in Preparation().to_json()
    other = Preparation.parse({"shared_key": {**AGREED, "holders": [ALBA, BRUNO, DORA]}})
    assert len({some.digest(), other.digest(), Preparation().digest()}) == 3


# --- at the node


def decided(world: World, key: dict[str, Any] | None, agreed: dict[str, Any] | None) -> str:
    """Return the word by which a node refuses a job under this key; empty if it permits it."""
    wanted = {} if agreed is None else {"shared_key": agreed}
    for provider in world.providers:
        provider.agreement = world.put(world.agreement(provider, preparation=wanted))
    job = world.put(world.job(preparation=wanted, encryption_key=key))
    try:
        decide(
            Ask(job, world.providers[0].asset),
            world.log.history,
            Spent(jobs=lambda _: frozenset(), unfinished=lambda _: 0, answered=()),
            now=world.clock(),
            code=lambda _: CODE,
            limits=Limits(),
        )
    except RefusedError as error:
        return error.reason
    return ""


HOLDERS = {"shared as agreed": (ALBA, BRUNO, CARLA), "shared with a stranger": (ALBA, BRUNO, DORA)}


def key_that_is(kind: str) -> dict[str, Any] | None:
    if kind in HOLDERS:
        return shared(*HOLDERS[kind])
    return None if kind == "none" else fixed_secret().public.to_json()


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("the researcher's own", "grant_mismatch"),
        ("shared with a stranger", "grant_mismatch"),
        ("shared as agreed", ""),
        ("none", ""),
    ],
)
def test_a_node_computes_under_the_agreed_kind_of_key_alone(tmp_path: Path, key: str, word: str):
    world = World(tmp_path / "world", providers=3)
    assert decided(world, key_that_is(key), AGREED) == word
    # The twin: where nothing was agreed, any key will do.
    assert decided(world, key_that_is(key), None) == ""


def test_other_holders_choose_no_other_rows(tmp_path: Path):
    world = World(tmp_path / "world", providers=3)
    wanted = {"shared_key": AGREED}
    for provider in world.providers:
        provider.agreement = world.put(world.agreement(provider, preparation=wanted))
    job = world.put(world.job(preparation=wanted, encryption_key=shared(ALBA, BRUNO)))
    answered = tuple(
        Preparation.parse({"shared_key": {**AGREED, "holders": [ALBA, *rest]}})
        for rest in ([BRUNO], [CARLA], [DORA], [BRUNO, DORA], [CARLA, DORA])
    )
    spent = Spent(jobs=lambda _: frozenset(), unfinished=lambda _: 0, answered=answered)
    found = decide(
        Ask(job, world.providers[0].asset),
        world.log.history,
        spent,
        now=world.clock(),
        code=lambda _: CODE,
        limits=replace(Limits(), row_selections=1),
    )
    assert found.preparation == Preparation.parse(wanted)
