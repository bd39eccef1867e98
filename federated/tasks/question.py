"""What a task is, and how a node's numbers become words that add.

A task asks `Question`s. A node's contribution is the concatenation of its encoded fields in the
layout's order, and the sum modulo 2^64 of all contributions decodes to the `Aggregate`.

    values = task.answer(plan, question, rows)              # at each node
    words = encode_answer(question.layout, values)          # uint64[question.words]
    aggregate = decode_aggregate(question.layout, total)    # at coordinator and buyer

The layout is public and derived from the plan by everyone's own code: a node refuses a question
whose layout differs from the one it derives. Questions travel, so they are canonical JSON.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from federated.errors import TaskError
from federated.plan import Aggregate, Field, Floats, Plan, Question, Words
from privacy.errors import OutOfRangeError, OverflowRefusedError, VectorError
from privacy.fixedpoint import (
    MAX_FRACTION_BITS,
    Scale,
    decode,
    decode_integers,
    encode,
    plan_scale,
)

Conversation = Generator[Question, Aggregate, dict[str, Any]]

ROW_CHOICES = ("all", "complete", "train", "test")
"""What a task may ask of the rows; the preparation says which rows each means."""

_SLACK = 1 + 2.0**-40
"""Bounds are computed in float64; this covers their rounding and that of the bounded sums."""


class PreparedRows(Protocol):
    """What a task sees of a node's data; `federated.node.rows.Rows` is one."""

    def count(self, which: str) -> int:
        """Returns how many rows a choice has."""

    def column(self, name: str, which: str) -> Floats:
        """Returns float64[n] of a raw column or a feature, nan where missing."""

    def matrix(self, features: tuple[str, ...], which: str) -> Floats:
        """Returns float64[n, d] without missing values."""

    def labels(self, which: str) -> Floats:
        """Returns float64[n] of zeros and ones."""

    def texts(self, name: str, which: str, *, gaps: bool = False) -> list[str]:
        """Returns the cells of a raw column as texts; missing ones are empty, or refused."""


class Task(Protocol):
    """A named, versioned computation over a cohort; without I/O and without Flower.

    `conduct` is the server side: a deterministic generator that asks questions, is sent their
    aggregates and returns the result. The coordinator runs it, the buyer replays it. Where nodes
    refused, the driver throws their TaskError into the generator.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    encrypted: ClassVar[bool]
    """Whether contributions travel encrypted under the buyer's key (one question then)."""
    most_questions: ClassVar[int]
    """How many questions one job may ask: the sum over its steps."""
    steps: ClassVar[tuple[tuple[str, int], ...]]
    """The steps in their order, each with how often it may be asked in one job."""

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns canonical parameters without floats, or raises TaskError."""

    def check_plan(self, plan: Plan) -> None:
        """Raises TaskError if the cards already show that the plan cannot be computed."""

    def question(self, plan: Plan, step: str, parameters: Mapping[str, Any]) -> Question:
        """Builds a question with its layout, or raises TaskError; the same at every side."""

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which of `ROW_CHOICES` the answers to this plan cover."""

    def check_order(self, earlier: Sequence[Question], question: Question) -> None:
        """Raises TaskError unless a job with these earlier questions may ask this one next."""

    def conduct(self, plan: Plan) -> Conversation:
        """Asks, is sent aggregates, and returns the result as plain JSON."""

    def answer(self, plan: Plan, question: Question, rows: PreparedRows) -> dict[str, Floats]:
        """Returns one node's values by field name, or raises TaskError."""


def real_field(plan: Plan, name: str, length: int, bound: float, *, fine: bool = False) -> Field:
    """Plans a field of real numbers so that the cohort's sum cannot overflow.

    Args:
        plan: Gives the number of parties.
        name: The field's name.
        length: How many numbers.
        bound: Largest magnitude at one party.
        fine: Take two words and every fraction bit there is (about 2^-105 of the bound), for
            sums that are subtracted from each other or tested for zero.

    Raises:
        TaskError: overflow.
    """
    bound *= _SLACK
    terms = len(plan.cohort)
    try:
        scale = plan_scale(bound, terms)
    except OverflowRefusedError as error:
        raise TaskError("overflow", f"{name}: {error}") from error
    if fine and bound:
        # |value| < 2^exponent, and terms <= 2^carry: so every sum stays below 2^109 < 2^110.
        exponent, carry = math.frexp(bound)[1], (terms - 1).bit_length()
        finest = min(MAX_FRACTION_BITS[2], 109 - exponent - carry)
        if finest > scale.fraction_bits:
            scale = Scale(fraction_bits=finest, words=2, terms=terms)
    return Field(name, length, scale, bound)


def whole_field(plan: Plan, name: str, length: int, bound: int) -> Field:
    """Plans a field of whole numbers, exact; a party's numbers stay within 2^53.

    Raises:
        TaskError: overflow.
    """
    try:
        scale = plan_scale(bound, len(plan.cohort), integers=True)
    except OverflowRefusedError as error:
        raise TaskError("overflow", f"{name}: {error}") from error
    return Field(name, length, scale, float(bound), integers=True)


def expect(task: Task, plan: Plan, question: Question) -> None:
    """Checks at a node that a question is the one this plan and step lead to.

    Raises:
        TaskError: unknown_step, bad_parameter, out_of_bounds, or layout_mismatch.
    """
    derived = task.question(plan, question.step, question.parameters)
    if derived.layout != question.layout:
        raise TaskError(
            "layout_mismatch",
            f"the layout of step {question.step!r} is not the one that this plan leads to; "
            "both sides must run the same code",
        )


def in_order(task: Task, earlier: Sequence[Question], question: Question) -> None:
    """Checks at a node that a job's questions keep to the task's steps and their numbers.

    Raises:
        TaskError: out_of_order, naming the step.
    """
    names = [name for name, _ in task.steps]
    asked = [names.index(one.step) if one.step in names else len(names) for one in earlier]
    at = names.index(question.step) if question.step in names else -1
    # The steps before must each have been asked, later ones not, and this one not too often.
    late = any(before > at for before in asked) or set(range(at)) - set(asked)
    if at < 0 or late or asked.count(at) >= task.steps[at][1]:
        raise TaskError(
            "out_of_order",
            f"a job of task {task.name} does not ask step {question.step!r} after "
            f"{len(earlier)} questions",
        )


def encode_answer(layout: tuple[Field, ...], values: Mapping[str, Floats]) -> Words:
    """Encodes one node's answer, checking every bound first.

    Returns:
        uint64[sum of the fields' words]

    Raises:
        TaskError: out_of_bounds naming the field; layout_mismatch if names or lengths differ.
    """
    if set(values) != {field.name for field in layout}:
        raise TaskError("layout_mismatch", "the answer's fields are not the layout's")
    parts = []
    for field in layout:
        numbers = np.asarray(values[field.name], dtype=np.float64)
        if numbers.shape != (field.length,):
            raise TaskError("layout_mismatch", f"field {field.name!r} has another length")
        # Written so that nan fails too.
        if not bool(np.all(np.abs(numbers) <= field.bound)):
            raise TaskError(
                "out_of_bounds",
                f"field {field.name!r} exceeds the bound that the data cards lead to; the data "
                "no longer fit their card: measure the asset again",
            )
        try:
            parts.append(encode(numbers, field.scale))
        except OutOfRangeError as error:
            raise TaskError("out_of_bounds", f"field {field.name!r}: {error}") from error
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


def decode_aggregate(layout: tuple[Field, ...], total: Words) -> dict[str, Floats | list[int]]:
    """Decodes a sum of contributions.

    Args:
        layout: The question's layout.
        total: uint64, the contributions' sum modulo 2^64.

    Raises:
        TaskError: layout_mismatch for another length; out_of_bounds if a total is beyond any sum
            of bounded contributions (one is missing, was added twice, or was changed).
    """
    if total.shape != (sum(field.words for field in layout),):
        raise TaskError("layout_mismatch", "the aggregate has another length than the layout")
    aggregate: dict[str, Floats | list[int]] = {}
    at = 0
    for field in layout:
        words = total[at : at + field.words]
        at += field.words
        try:
            aggregate[field.name] = (
                decode_integers(words, field.scale)
                if field.integers
                else decode(words, field.scale)
            )
        except (OutOfRangeError, VectorError) as error:
            raise TaskError("out_of_bounds", f"field {field.name!r}: {error}") from error
    return aggregate


def whole(aggregate: Aggregate, name: str) -> list[int]:
    """Returns the whole numbers of a field.

    Raises:
        TaskError: layout_mismatch if the aggregate has no such field.
    """
    numbers = aggregate.get(name)
    if not isinstance(numbers, list):
        raise TaskError("layout_mismatch", f"the aggregate has no whole numbers {name!r}")
    return numbers


def real(aggregate: Aggregate, name: str) -> Floats:
    """Returns the real numbers of a field, float64[length].

    Raises:
        TaskError: layout_mismatch if the aggregate has no such field.
    """
    numbers = aggregate.get(name)
    if not isinstance(numbers, np.ndarray):
        raise TaskError("layout_mismatch", f"the aggregate has no real numbers {name!r}")
    return numbers
