"""Compares what came out with what a scenario expects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marketplace.scenario.parts import STATE, ExpectPart


@dataclass(frozen=True)
class Checked:
    """One expectation, whether it held, and why."""

    name: str
    held: bool
    detail: str


def look_up(document: Any, path: str) -> Any:
    """Return what stands at a dotted path; a name may itself contain dots.

    Raises:
        KeyError: nothing does.
    """
    if isinstance(document, Mapping) and path in document:
        return document[path]
    head, dot, rest = path.partition(".")
    while dot:
        if isinstance(document, Mapping) and head in document:
            return look_up(document[head], rest)
        if isinstance(document, list) and head.isdigit() and int(head) < len(document):
            return look_up(document[int(head)], rest)
        further, dot, rest = rest.partition(".")
        head = f"{head}.{further}"
    if isinstance(document, list) and path.isdigit() and int(path) < len(document):
        return document[int(path)]
    raise KeyError(path)


def check(part: ExpectPart, state: str, result: Mapping[str, Any]) -> Checked:
    """Hold one expectation against how a job ended and what it gave.

    Args:
        part: the expectation; its path is `state`, or leads into the result.
        state: how the job ended.
        result: what it gave, or {"error": {"reason", "message"}}.
    """
    try:
        document = {"result": result, **result}
        found = state if part.path == STATE else look_up(document, part.path)
    except KeyError:
        return Checked(part.name, held=False, detail=f"there is no {part.path}")
    failures = [text for holds, text in _comparisons(part, found) if not holds]
    return Checked(
        part.name, held=not failures, detail="; ".join([f"is {_show(found)}", *failures])
    )


def _comparisons(part: ExpectPart, found: Any) -> list[tuple[bool, str]]:
    comparisons = []
    if part.equals is not None:
        comparisons.append((_equal(found, part.equals, part.tolerance), f"not {part.equals}"))
    number = type(found) in (int, float)
    if part.at_least is not None:
        holds = number and found >= part.at_least - part.tolerance
        comparisons.append((holds, f"not at least {part.at_least}"))
    if part.at_most is not None:
        holds = number and found <= part.at_most + part.tolerance
        comparisons.append((holds, f"not at most {part.at_most}"))
    return comparisons


def _equal(found: Any, expected: Any, tolerance: float) -> bool:
    numbers = type(found) in (int, float) and type(expected) in (int, float)
    if numbers:
        # Exactly, unless a tolerance was given; the comparison itself rounds at most once.
        return math.isclose(found, expected, rel_tol=0.0, abs_tol=tolerance)
    return type(found) is type(expected) and bool(found == expected)


def _show(found: Any) -> str:
    return f"{found:.6g}" if isinstance(found, float) else str(found)
