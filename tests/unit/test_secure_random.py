import ast
from math import gcd
from pathlib import Path

import pytest

import privacy
from privacy.errors import PrivacyError
from privacy.secure_random import random_below, random_bytes, random_unit


def test_bytes_have_the_asked_length_and_differ():
    assert len(random_bytes(1)) == 1
    assert random_bytes(32) != random_bytes(32)


@pytest.mark.parametrize("length", [0, -1])
def test_no_bytes_are_refused(length: int):
    with pytest.raises(PrivacyError):
        random_bytes(length)


def test_numbers_below_a_bound_reach_them_all_and_none_beyond():
    assert {random_below(5) for _ in range(2000)} == set(range(5))
    assert random_below(1) == 0


@pytest.mark.parametrize("bound", [0, -5])
def test_a_bound_with_nothing_below_is_refused(bound: int):
    with pytest.raises(PrivacyError):
        random_below(bound)


def test_units_share_no_factor_and_reach_them_all():
    drawn = {random_unit(15) for _ in range(2000)}
    assert drawn == {u for u in range(15) if gcd(u, 15) == 1}
    assert random_unit(2) == 1


@pytest.mark.parametrize("modulus", [1, 0, -7])
def test_a_modulus_without_units_is_refused(modulus: int):
    with pytest.raises(PrivacyError):
        random_unit(modulus)


def test_no_other_module_of_the_package_draws_randomness():
    for path in Path(privacy.__file__).parent.glob("*.py"):
        if path.name == "secure_random.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            assert not {"random", "secrets", "numpy.random"} & set(names), path.name
            assert not (isinstance(node, ast.Attribute) and node.attr in {"random", "urandom"})
