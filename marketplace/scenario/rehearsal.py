"""Holds a scenario against its data before anything is played, so that a mistake changes nothing.

Reads every file, applies the preparation, asks the terms about every job and answers each job's
first questions in the clear, at the one place where the owner of all data files runs them together
anyway. So one class, constant and collinear columns are known before a party is enrolled.
What only a whole fit shows, separation above all, ends as a failed job.

A job that the file expects not to be released is held against names and types alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from federated.errors import FederatedError, RefusedError
from federated.node.home import NodeSettings
from federated.node.profile import measure
from federated.node.row_sets import refuse_close_rows, row_sets
from federated.node.rows import Rows, prepare
from federated.node.vault import Listing, Vault
from federated.plan import Party, Plan, Question, Words
from federated.tasks import (
    AnyTask,
    JointTask,
    Task,
    decode_aggregate,
    encode_answer,
    find_task,
)
from ledger.terms import ANYONE, Request, evaluate
from marketplace.listing import slug
from marketplace.scenario.errors import ScenarioError
from marketplace.scenario.parts import JobPart, ProviderPart, Scenario
from marketplace.scenario.stage import AUDITOR, RESEARCHER

FIRST_QUESTIONS = 3
"""Questions answered beforehand: for a regression both moment rounds and the first model point,
where collinear columns show. A whole fit would compute everything twice."""


def rehearse(
    scenario: Scenario, now: int, seen: Callable[[str], None] = lambda _: None
) -> tuple[Party, ...]:
    """Return the cohort as its nodes will measure it, if all can be used as the scenario says.

    Args:
        scenario: what is to be played.
        now: Unix milliseconds.
        seen: called with each provider's name once its file was read.

    Returns:
        One party for each provider, in the file's order.

    Raises:
        ScenarioError: names the provider or job, and file, line or column.
    """
    _distinct_folders(scenario)
    for job in scenario.jobs:
        _ask_terms(job, scenario, now)
    rows: list[Rows] = []
    cohort: list[Party] = []
    for provider in scenario.providers:
        try:
            prepared, party = _read(provider, scenario)
        except FederatedError as error:
            raise ScenarioError(f"provider {provider.name!r}: {error}") from error
        rows.append(prepared)
        cohort.append(party)
        seen(provider.name)
    answered: list[list[bytes]] = [[] for _ in rows]
    for job in scenario.jobs:
        try:
            _try(job, scenario, tuple(cohort), rows, answered)
        except FederatedError as error:
            raise ScenarioError(f"job {job.name!r}: {error}") from error
    return tuple(cohort)


def _distinct_folders(scenario: Scenario) -> None:
    """Refuse names whose folders would be the same, before a folder is made."""
    taken = {slug(name): name for name in (RESEARCHER, AUDITOR)}
    for provider in scenario.providers:
        other = taken.setdefault(slug(provider.name), provider.name)
        if other != provider.name or other in (RESEARCHER, AUDITOR):
            raise ScenarioError(
                f"provider {provider.name!r}: the name is too like {other!r}, whose folder would "
                "be the same; choose another"
            )


def _ask_terms(job: JobPart, scenario: Scenario, now: int) -> None:
    """Refuse a job that the terms cannot permit, unless the file expects that."""
    if _fails(job, scenario):
        return
    before = scenario.jobs[: scenario.jobs.index(job)]
    uses = sum(not _fails(each, scenario) for each in before)
    request = Request(
        task=job.task,
        purpose=job.purpose,
        recipient=ANYONE,
        parties=len(scenario.providers),
        exact=True,
        time=now,
    )
    for provider in scenario.providers:
        decision = evaluate(provider.terms, request, uses)
        if not decision.permitted:
            raise ScenarioError(
                f"job {job.name!r}: the terms of {provider.name!r} do not permit it "
                f"({decision.reason}): {decision.detail}; change the terms or the job"
            )


def _fails(job: JobPart, scenario: Scenario) -> bool:
    return scenario.expects_state(job.name) not in (None, "released")


def _read(provider: ProviderPart, scenario: Scenario) -> tuple[Rows, Party]:
    vault = Vault({provider.name: Listing(provider.file, provider.reading)})
    table, digest = vault.table(provider.name)
    rows = prepare(table, scenario.preparation)
    return rows, Party.from_measurement(provider.name, provider.name, measure(table, digest))


def _try(
    job: JobPart,
    scenario: Scenario,
    cohort: tuple[Party, ...],
    rows: list[Rows],
    answered: list[list[bytes]],
) -> None:
    """Hold one job against names, types, row sets and the data; `answered` takes its row sets.

    Raises:
        FederatedError: it cannot be computed, or a node would refuse it.
    """
    task = find_task(job.task)
    plan = Plan(
        task=task.name,
        version=task.version,
        parameters=task.parse_parameters(job.parameters),
        cohort=cohort,
        preparation=scenario.preparation,
    )
    for column in plan.parameters.get("columns", ()):
        if scenario.preparation.levels(column) is None:
            for party, prepared in zip(cohort, rows, strict=True):
                if column in party.columns:
                    # Says at which line the first cell stands that is no number.
                    prepared.column(column, "all")
    task.check_plan(plan)
    if not _fails(job, scenario):
        for party, prepared, before in zip(cohort, rows, answered, strict=True):
            wanted = row_sets(task, plan, prepared)
            try:
                refuse_close_rows(wanted, before, NodeSettings.minimum_rows)
            except RefusedError as error:
                raise FederatedError(
                    f"provider {party.name!r} would refuse ({error.reason}): {error}; two jobs are "
                    'to use the same rows or clearly other ones, see `rows`, e.g. rows = "complete"'
                ) from error
            before.extend(wanted)
        _begin(task, plan, rows)


def _begin(task: AnyTask, plan: Plan, rows: list[Rows]) -> None:
    """Begin a job over all parties, as far as shows whether it can be done at all.

    Raises:
        FederatedError: what the task says to these data.
    """
    if not isinstance(task, JointTask):
        for _ in _first_questions(task, plan, rows):
            pass
        return
    for party, prepared in zip(plan.cohort, rows, strict=True):
        try:
            task.check_rows(plan, party.asset_id, prepared)
        except FederatedError as error:
            raise FederatedError(f"provider {party.name!r}: {error}") from error


def _first_questions(task: Task, plan: Plan, rows: list[Rows]) -> Iterator[Question]:
    """Answer a job's first questions over all parties; yield each question.

    Raises:
        FederatedError: what the task says to these data.
    """
    conversation = task.conduct(plan)
    try:
        question = next(conversation)
        for _ in range(FIRST_QUESTIONS):
            yield question
            total = _answer(task, plan, question, rows)
            question = conversation.send(decode_aggregate(question.layout, total))
    except StopIteration:
        return
    finally:
        conversation.close()


def _answer(task: Task, plan: Plan, question: Question, rows: list[Rows]) -> Words:
    """Return uint64[question.words], the sum modulo 2^64 of every party's encoded answer."""
    total = np.zeros(question.words, dtype=np.uint64)
    for party, prepared in zip(plan.cohort, rows, strict=True):
        try:
            total += encode_answer(question.layout, task.answer(plan, question, prepared))
        except FederatedError as error:
            raise FederatedError(f"provider {party.name!r}: {error}") from error
    return total
