"""Privacy budgets: what is spent under an agreement is metered, and bounded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.accounts import Accounts
from ledger.errors import LedgerError, RuleError, StatementError
from ledger.statements import BudgetedAgreement, MeteredReceipt, read
from tests.world import World


class Budgeted(World):
    """A world of one provider whose agreement has a budget of 100 micro-units."""

    def agreement(self, provider: Any, **changes: Any) -> BudgetedAgreement:
        plain = super().agreement(provider, **changes)
        return BudgetedAgreement(**vars(plain), budget_micro=100)

    def metered(self, job: str, grant: str, spent: int, **changes: Any) -> MeteredReceipt:
        plain = self.receipt(self.providers[0], job, grant, **changes)
        return MeteredReceipt(**vars(plain), spent_micro=spent)


@pytest.fixture
def world(tmp_path: Path) -> Budgeted:
    return Budgeted(tmp_path, 1, terms={"exact": False})


def granted(world: Budgeted) -> tuple[str, str]:
    job, grants = world.granted_job()
    return job, grants[0]


def code_of(world: Budgeted, statement: Any) -> str:
    with pytest.raises(LedgerError) as caught:
        world.log.check(world.sign(statement))
    return caught.value.code if isinstance(caught.value, RuleError) else ""


def test_spending_up_to_the_budget_is_sound_and_counted(world: Budgeted):
    for spent in (60, 40):
        job, grant = granted(world)
        world.put(world.release(job, [world.put(world.metered(job, grant, spent))]))
    assert world.audit().status == "sound"
    account = Accounts.of(world.log.history).agreements[world.providers[0].agreement]
    assert (account.spent_micro, account.budget_micro) == (100, 100)


def test_one_unit_more_is_refused(world: Budgeted):
    job, grant = granted(world)
    assert code_of(world, world.metered(job, grant, 101)) == "overspent_budget"
    world.put(world.metered(job, grant, 100))


def test_what_failed_jobs_sent_is_spent_too(world: Budgeted):
    job, grant = granted(world)
    world.put(world.metered(job, grant, 80, state="failed", reason="task_error"))
    job, grant = granted(world)
    assert code_of(world, world.metered(job, grant, 21)) == "overspent_budget"
    world.put(world.metered(job, grant, 20))


def test_who_sends_says_what_it_spent(world: Budgeted):
    job, grant = granted(world)
    assert code_of(world, world.receipt(world.providers[0], job, grant)) == "unmetered"
    refusal = world.receipt(world.providers[0], job, None, state="refused", reason="revoked")
    world.put(refusal)


def test_without_a_budget_nobody_meters(tmp_path: Path):
    world = World(tmp_path, 1)
    job, grants = world.granted_job()
    world.put(world.receipt(world.providers[0], job, grants[0]))


def test_no_budget_bounds_exact_answers(world: Budgeted):
    statement = world.agreement(world.providers[0])
    assert read(world.sign(statement)).statement == statement
    exact = replace(statement, terms=replace(statement.terms, exact=True))
    with pytest.raises(StatementError, match="exact"):
        world.sign(exact)


def test_terms_without_exact_answers_permit_none_without_a_budget(tmp_path: Path):
    world = World(tmp_path, 1, terms={"exact": False})
    job = world.put(world.job())
    with pytest.raises(RuleError, match="exact"):
        world.log.check(world.sign(world.grant(world.providers[0], job)))


def test_what_sends_nothing_spends_nothing(world: Budgeted):
    job, grant = granted(world)
    silent = world.metered(job, grant, 1, state="failed", reason="task_error", contributions=())
    with pytest.raises(StatementError, match="nothing was sent"):
        world.sign(silent)
    world.put(replace(silent, spent_micro=0))
