"""The guard's decision: one permitted case, and everything that changes it, one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from federated.errors import RefusedError
from federated.node.guard import Ask, Limits, Permit, Spent, decide
from federated.preparation import Preparation
from ledger.errors import LedgerError
from ledger.history import History
from ledger.merkle import leaf_hash
from ledger.rules import admit
from ledger.statements import Job
from tests.drafts import CODE, SECOND, YEAR
from tests.world import World

SPLIT = {"split": {"train": "0.66", "seed": 43, "stratify": False, "unless_class_at_most": 1}}
ROWS = {"complete_rows": True}


def spent(*jobs: str, unfinished: int = 0, answered: tuple[dict[str, Any], ...] = ()) -> Spent:
    return Spent(
        jobs=lambda _: frozenset(jobs),
        unfinished=lambda _: unfinished,
        answered=tuple(Preparation.parse(each) for each in answered),
    )


@dataclass
class Case:
    """A job that every provider granted, as the first provider's node sees it."""

    world: World
    job: str
    grant: str
    other_job: str
    other_grant: str
    spent: Spent = field(default_factory=spent)
    code: str = CODE
    late: int = 0
    limits: Limits = field(default_factory=Limits)

    @property
    def history(self) -> History:
        """A reader's own history, which a test may spoil."""
        history = self.read(lambda _: None, before="")
        assert (history.broken, history.repeats) == ({}, set())
        return history

    def read(self, spoil: Callable[[History], None], *, before: str) -> History:
        """Read the log as a node does; spoil what was read before one statement comes."""
        history = History()
        openings = {item.index: item for item in self.world.openings()}
        for entry, data in zip(
            self.world.entries(), self.world.log.entry_bytes(0, self.world.log.size), strict=True
        ):
            opened = openings[entry.index].reveal(entry)
            if opened.id == before:
                spoil(history)
            with suppress(LedgerError):
                admit(history, entry, leaf_hash(data), opened)
        return history

    @property
    def ask(self) -> Ask:
        providers = self.world.providers
        cohort = tuple(sorted(provider.asset for provider in providers))
        return Ask(self.job, providers[0].asset, self.grant, cohort)

    def decide(self, ask: Ask | None = None, history: History | None = None) -> Permit:
        return decide(
            ask or self.ask,
            history or self.world.log.history,
            self.spent,
            now=self.world.clock() + self.late,
            code=lambda _: self.code,
            limits=self.limits,
        )

    def reason(self, ask: Ask | None = None, history: History | None = None) -> str:
        with pytest.raises(RefusedError) as refused:
            self.decide(ask, history)
        return refused.value.reason


def build(folder: Path) -> Case:
    world = World(folder, providers=3)
    first, second = world.put(world.job()), world.put(world.job())
    grants = [world.put(world.grant(provider, first)) for provider in world.providers]
    other = world.put(world.grant(world.providers[0], second))
    return Case(world, first, grants[0], second, other)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return build(tmp_path / "world")


def test_the_permitted_case_names_everything_it_rests_on(case: Case):
    permit = case.decide()
    world = case.world
    assert permit.job == world.statements[case.job]
    assert permit.grant == world.statements[case.grant]
    assert permit.agreement_id == world.providers[0].agreement
    assert permit.preparation == Preparation.parse(ROWS)
    assert permit.log_size == world.log.size
    assert permit.node_keys == {
        provider.asset: world.node_key(provider).verify_key for provider in world.providers
    }
    # Before the grant there is none to be asked for.
    assert case.decide(replace(case.ask, grant=None)).grant is None


Change = Callable[[Case], Any]

REFUSED: dict[str, tuple[Change, str]] = {
    # of what is asked
    "no job": (lambda c: setattr(c, "job", "job:" + "0" * 64), "not_proven"),
    "no id at all": (lambda c: setattr(c, "job", "anything"), "not_proven"),
    "a job's id that is a grant's": (lambda c: setattr(c, "job", c.grant), "not_proven"),
    "no grant": (lambda c: setattr(c, "grant", ""), "not_proven"),
    "a grant that nobody logged": (
        lambda c: setattr(c, "grant", "grant:" + "0" * 64),
        "not_proven",
    ),
    "a job's id as grant": (lambda c: setattr(c, "grant", c.job), "not_proven"),
    "another job's grant": (lambda c: setattr(c, "grant", c.other_grant), "grant_mismatch"),
    "a grant for another job": (lambda c: setattr(c, "job", c.other_job), "grant_mismatch"),
    # of the code and the journal
    "other code": (lambda c: setattr(c, "code", "sha256:" + "1" * 64), "code_unknown"),
    "all uses in the journal": (
        lambda c: setattr(c, "spent", spent("a", "b", "c")),
        "quota_used_up",
    ),
    "many jobs without end": (
        lambda c: setattr(c, "spent", spent(unfinished=8)),
        "quota_used_up",
    ),
    "too many row selections": (
        lambda c: (
            setattr(c, "limits", Limits(row_selections=1)),
            setattr(c, "spent", spent(answered=({},))),
        ),
        "row_selection_not_allowed",
    ),
    # of time
    "after the agreement": (lambda c: setattr(c, "late", 2 * YEAR), "agreement_expired"),
    "after the grant": (lambda c: setattr(c, "late", 3700 * SECOND), "agreement_expired"),
}


@pytest.mark.parametrize(("late", "reason"), [(0, None), (1, "agreement_expired")])
def test_the_time_of_the_log_counts_where_it_is_later(case: Case, late: int, reason: str | None):
    """A node whose clock is behind once computed in what the log shows to be too late."""
    world, grant = case.world, case.world.statements[case.grant]
    world.clock.now = grant.until + late - SECOND  # type: ignore[attr-defined]
    world.put(world.offer(world.providers[0]))
    case.late = -60 * SECOND
    if reason is None:
        case.decide()
    else:
        assert case.reason() == reason


@pytest.mark.parametrize("name", REFUSED)
def test_one_change_is_refused(case: Case, name: str):
    change, reason = REFUSED[name]
    change(case)
    assert case.reason() == reason


def revoke(target: Callable[[Case], str], issuer: str = "provider") -> Change:
    def change(case: Case) -> None:
        world = case.world
        by = {
            "provider": world.providers[0],
            "researcher": world.researcher,
            "other": world.providers[1],
            "operator": world.operator,
        }[issuer]
        world.put(world.revoke(by, target(case)))

    return change


REVOKED: dict[str, Change] = {
    "the agreement, by the provider": revoke(lambda c: c.world.providers[0].agreement),
    "the agreement, by the researcher": revoke(
        lambda c: c.world.providers[0].agreement, "researcher"
    ),
    "the grant": revoke(lambda c: c.grant),
    "the asset": revoke(lambda c: c.world.providers[0].asset),
    "another party's asset": revoke(lambda c: c.world.providers[1].asset, "other"),
    "the provider's key": revoke(lambda c: c.world.providers[0].id),
    "another provider's key": revoke(lambda c: c.world.providers[1].id, "other"),
    "another provider's key, by the operator": revoke(
        lambda c: c.world.providers[1].id, "operator"
    ),
    "the researcher's key": revoke(lambda c: c.world.researcher.id, "researcher"),
    "the job, by the operator": revoke(lambda c: c.job, "operator"),
}


@pytest.mark.parametrize("name", REVOKED)
def test_what_was_revoked_is_refused_and_nothing_else(case: Case, name: str):
    case.world.put(case.world.revoke(case.world.providers[0], case.other_grant))
    case.decide()
    REVOKED[name](case)
    assert case.reason() == "revoked"


@pytest.mark.parametrize("told_by", ["journal", "log"])
def test_a_job_that_was_revoked_since_uses_nothing_up_and_is_one_without_result(
    case: Case, told_by: str
):
    """Three uses are agreed; the operator says that nothing came of one of them."""
    world, first = case.world, case.world.providers[0]
    jobs = [world.put(world.job()) for _ in range(3)]
    grants = [world.put(world.grant(first, job)) for job in jobs]
    if told_by == "log":
        for job, grant in zip(jobs, grants, strict=True):
            world.put(world.receipt(first, job, grant))
    case.spent = spent(*(jobs if told_by == "journal" else ()))
    assert case.reason() == "quota_used_up"
    world.put(world.revoke(world.operator, jobs[1]))
    case.decide()
    # An answer had left for it, and the operator said that it ended: so often, and not more.
    case.limits = Limits(unfinished=1)
    assert case.reason() == "quota_used_up"
    case.limits, case.spent = Limits(unfinished=2), replace(case.spent, unfinished=lambda _: 1)
    assert case.reason() == "quota_used_up"
    case.limits = Limits(unfinished=3)
    case.decide()


def test_a_strangers_revocation_ends_nothing(case: Case):
    world = case.world
    world.insecure_put(world.revoke(world.providers[1], world.providers[0].agreement))
    assert case.decide(history=case_history(case)).grant_id == case.grant


def case_history(case: Case) -> History:
    """The history of a reader that goes on after a broken entry, as the log's client does."""
    return case.world.open_log().history


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": "advertising"}, "purpose_not_allowed"),
        ({"task": "linear"}, "grant_mismatch"),
        ({"preparation": {}}, "row_selection_not_allowed"),
        ({"preparation": {"complete_rows": 1}}, "row_selection_not_allowed"),
        ({"code_digest": "sha256:" + "2" * 64}, "code_unknown"),
    ],
)
def test_a_job_outside_its_agreement_is_refused_before_any_grant(
    case: Case, changes: dict[str, Any], reason: str
):
    world = case.world
    job = world.put(world.job(**changes))
    assert case.reason(Ask(job, world.providers[0].asset)) == reason


def test_a_preparation_that_is_none_is_refused_though_agreed(tmp_path: Path):
    world = World(tmp_path / "world", providers=3, enrolled=True)
    wrong = {"complete_rows": "yes"}
    for provider in world.providers:
        provider.agreement = world.put(world.agreement(provider, preparation=wrong))
    job = world.put(world.job(preparation=wrong))
    case = Case(world, job, "", job, "")
    assert case.reason(Ask(job, world.providers[0].asset)) == "row_selection_not_allowed"


def test_fewer_parties_than_the_terms_say_are_refused(case: Case):
    world = case.world
    two = world.providers[:2]
    job = world.put(
        world.job(
            assets=tuple(provider.asset for provider in two),
            agreements=tuple(provider.agreement for provider in two),
        )
    )
    assert case.reason(Ask(job, two[0].asset)) == "grant_mismatch"


def test_a_job_that_does_not_name_the_asset_is_refused(case: Case):
    other = Ask(case.job, "asset:" + "3" * 64)
    assert case.reason(other) == "grant_mismatch"


def test_another_cohort_than_the_granted_is_refused(case: Case):
    assets = [provider.asset for provider in case.world.providers]
    for cohort in (assets[:2], [*assets, "asset:" + "4" * 64], []):
        assert case.reason(replace(case.ask, cohort=tuple(sorted(cohort)))) == "grant_mismatch"


def test_terms_may_name_recipients_and_forbid_exact_answers(tmp_path: Path):
    for number, terms in enumerate(
        ({"recipients": ("participant:" + "5" * 64,)}, {"exact": False})
    ):
        world = World(tmp_path / str(number), providers=3, terms=terms)
        job = world.put(world.job())
        case = Case(world, job, "", job, "")
        assert case.reason(Ask(job, world.providers[0].asset)) == "grant_mismatch"


def test_an_agreement_of_another_researcher_or_asset_is_refused(case: Case):
    world = case.world
    first, second, third = world.providers
    swapped = (second.agreement, first.agreement, third.agreement)
    job = world.insecure_put(world.job(agreements=swapped))
    # The rule of the log is broken; the word is the same with and without that rule.
    assert case.reason(Ask(job, first.asset), case_history(case)) == "grant_mismatch"


# --- what the operator withholds


GROUNDS = ["job", "grant", "agreement", "asset", "other asset"]


def ground(case: Case, what: str) -> str:
    first, second = case.world.providers[:2]
    return {
        "job": case.job,
        "grant": case.grant,
        "agreement": first.agreement,
        "asset": first.asset,
        "other asset": second.asset,
    }[what]


@pytest.mark.parametrize("what", GROUNDS)
def test_what_stays_sealed_to_the_node_is_not_proven(case: Case, what: str):
    history = case.history
    assert case.decide(history=history).grant_id == case.grant
    history.by_id.pop(ground(case, what))
    assert case.reason(history=history) == "not_proven"


@pytest.mark.parametrize("what", GROUNDS)
def test_what_an_earlier_entry_named_falsely_is_not_proven(case: Case, what: str):
    """An operator's entry that names a statement to come makes a repetition of the true one."""
    named = ground(case, what)
    history = case.read(lambda history: history.name({named: history.size}), before=named)
    assert history.broken == {}
    assert len(history.repeats) == 1
    assert case.reason(history=history) == "not_proven"


# --- rows


def other_rows(**changes: Any) -> dict[str, Any]:
    return {**ROWS, **SPLIT, **changes}


SPLITS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    (other_rows(), other_rows(), True),
    (other_rows(), other_rows(split={**SPLIT["split"], "seed": 44}), False),
    (other_rows(), other_rows(split={**SPLIT["split"], "train": "0.67"}), False),
    # Other features over the same rows and the same split choose nothing new.
    (other_rows(), other_rows(one_hot={"cp": [1, 2]}), True),
    # A label divides nothing unless the split follows it.
    (
        other_rows(label={"column": "num", "above": "0"}),
        other_rows(label={"column": "num", "above": "1"}),
        True,
    ),
    (
        other_rows(
            label={"column": "num", "above": "0"}, split={**SPLIT["split"], "stratify": True}
        ),
        other_rows(
            label={"column": "num", "above": "1"}, split={**SPLIT["split"], "stratify": True}
        ),
        False,
    ),
    ({}, other_rows(), True),
    (other_rows(), {}, True),
]


@pytest.mark.parametrize(("answered", "wanted", "permitted"), SPLITS)
def test_a_second_split_of_the_same_rows_is_refused(
    tmp_path: Path,
    answered: dict[str, Any],
    wanted: dict[str, Any],
    permitted: bool,  # noqa: FBT001
):
    world = World(tmp_path / "world", providers=3)
    for provider in world.providers:
        provider.agreement = world.put(world.agreement(provider, preparation=wanted))
    job = world.put(world.job(preparation=wanted))
    case = Case(world, job, "", job, "", spent=spent(answered=(answered,)))
    ask = Ask(job, world.providers[0].asset)
    if permitted:
        assert case.decide(ask).preparation == Preparation.parse(wanted)
    else:
        assert case.reason(ask) == "row_selection_not_allowed"


# --- uses


def test_uses_count_once_whether_the_log_or_the_journal_knows_them(tmp_path: Path):
    world = World(tmp_path / "world", providers=3)
    done, _, _ = world.receipted_job()
    job = world.put(world.job())
    case = Case(world, job, "", job, "")
    ask = Ask(job, world.providers[0].asset)
    # Three uses: one is in the log.
    for journal, permitted in (
        ((), True),
        (("a",), True),
        ((done, "a"), True),
        (("a", "b"), False),
        ((done, "a", "b"), False),
        # The job itself is not counted against itself.
        ((job, "a"), True),
    ):
        case.spent = spent(*journal)
        if permitted:
            assert isinstance(case.decide(ask).job, Job)
        else:
            assert case.reason(ask) == "quota_used_up"


def test_the_log_alone_stops_a_node_that_forgot(tmp_path: Path):
    world = World(tmp_path / "world", providers=3)
    for _ in range(3):
        world.receipted_job()
    job = world.put(world.job())
    case = Case(world, job, "", job, "")
    assert case.reason(Ask(job, world.providers[0].asset)) == "quota_used_up"
