"""Every rule: a dishonest operator logs what breaks it, and exactly that finding appears.

Each case is a pair of worlds that differ in one thing. The honest twin is sound, so the finding
comes from the lie and from nothing else.
"""

import dataclasses
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ledger import kind_rules, rules
from ledger.errors import EvidenceError, RuleError, SignatureError
from ledger.statements import Receipt, Unverified, read
from ledger.statements.registry import BY_MEDIA_TYPE
from tests.drafts import SECOND, START, YEAR, key_of
from tests.revocations import (
    after_revoking_a_job,
    job_revoked,
    job_revoked_by,
    key_revoked_by,
    receipt_after_revoking,
    revocation_by,
    revoked,
    uses_of_which_one_is_revoked,
)
from tests.stories import (
    FAILED,
    OTHER_CODE,
    Story,
    agreement_by,
    agreement_with,
    agreement_with_another_asset,
    agreement_with_right_asset,
    an_agreement,
    an_offer,
    an_offer_signed,
    asset,
    asset_by_researcher,
    billed_to_another,
    dearer,
    ends,
    grant,
    grant_after,
    grant_after_uses,
    grant_for_an_unused_asset,
    grant_of_anothers_agreement,
    grant_of_own_agreement,
    greedy,
    job_by_a_second_researcher,
    job_with_swapped_agreements,
    offer_of,
    one_line_short,
    paid_to_another,
    participant,
    receipt,
    receipt_after_the_grant,
    receipt_from_the_future,
    receipt_having_read,
    receipt_of_a_job_that_is_not_logged,
    receipt_under_the_grant_of,
    receipts,
    release,
    release_resting_on_a_refusal,
    same_key_twice,
    settled,
    settled_for_another_job,
    settled_times,
    skimmed,
    uses,
)
from tests.world import World


@dataclass(frozen=True)
class Lie:
    """What goes into the log: `story` with the lie, `twin` without it."""

    code: str
    story: Story
    twin: Story
    about: str = ""
    enrolled: bool = True


LIES = [
    Lie(
        "second_operator",
        participant("rival.example", "operator"),
        participant("rival.example", "auditor"),
    ),
    Lie(
        "no_operator",
        participant("early.example", "provider"),
        participant("early.example", "operator"),
        enrolled=False,
    ),
    Lie("duplicate_key", same_key_twice, participant("alias.example", "provider")),
    Lie("wrong_role", asset_by_researcher, asset(), "asset"),
    Lie("wrong_role", agreement_by("provider"), agreement_by("researcher"), "agreement"),
    Lie("measurement_invalid", asset(measured_by="somebody.example"), asset()),
    Lie("wrong_valuation", asset(valued_ppm=1_000_000), asset()),
    Lie("not_owner", offer_of(1), offer_of(0), "offer"),
    Lie("not_owner", agreement_with(1, 1), agreement_with(0, 0), "agreement"),
    Lie("not_owner", grant_of_anothers_agreement, grant_of_own_agreement, "grant"),
    Lie("not_owner", revocation_by("stranger"), revocation_by("owner"), "revocation"),
    Lie("not_owner", revocation_by("operator"), key_revoked_by("operator"), "operator"),
    Lie("not_owner", key_revoked_by("stranger"), key_revoked_by("operator"), "key"),
    Lie("not_owner", job_revoked_by("researcher"), job_revoked_by("operator"), "own job"),
    Lie("not_owner", job_revoked_by("provider"), job_revoked_by("operator"), "job"),
    Lie("revoked_release", job_revoked(released=True), job_revoked(released=False)),
    Lie("agreement_mismatch", agreement_with_another_asset, agreement_with_right_asset, "asset"),
    Lie(
        "agreement_mismatch",
        job_with_swapped_agreements(swapped=True),
        job_with_swapped_agreements(swapped=False),
        "job",
    ),
    Lie(
        "agreement_mismatch",
        job_by_a_second_researcher(with_own_agreements=False),
        job_by_a_second_researcher(with_own_agreements=True),
        "researcher",
    ),
    Lie(
        "grant_mismatch",
        grant_for_an_unused_asset(used=False),
        grant_for_an_unused_asset(used=True),
        "asset",
    ),
    Lie("grant_mismatch", grant(cohort=2, minimum_parties=2), grant(cohort=3), "cohort"),
    Lie("grant_mismatch", grant(minimum_parties=2), grant(minimum_parties=3), "parties"),
    Lie("grant_mismatch", receipt_under_the_grant_of(1), receipt_under_the_grant_of(0), "receipt"),
    Lie("outside_terms", grant({"task": "intersection"}), grant({"task": "logistic"}), "task"),
    Lie(
        "outside_terms", grant({"purpose": "marketing"}), grant({"purpose": "research"}), "purpose"
    ),
    Lie("outside_terms", grant_after(YEAR), grant_after(YEAR - 3600 * SECOND), "expiry"),
    Lie(
        "outside_terms",
        grant({"preparation": {"complete_rows": False}}),
        grant({"preparation": {"complete_rows": True}}),
        "preparation",
    ),
    Lie("outside_terms", grant(until=START + YEAR + 1), grant(until=START + YEAR), "end"),
    Lie("outside_terms", grant_after_uses(3), grant_after_uses(2), "uses"),
    Lie("not_seen_yet", receipt_from_the_future(1), receipt_from_the_future(0)),
    Lie("not_proven", receipt(early=True), receipt(), "early"),
    Lie("not_proven", receipt_having_read(0), receipt_having_read(1), "by one"),
    Lie(
        "unknown_reference",
        receipt_of_a_job_that_is_not_logged("completed"),
        receipt_of_a_job_that_is_not_logged("refused"),
    ),
    Lie("code_unknown", receipt(code_digest=OTHER_CODE), receipt(), "completed"),
    # Without its memory a node names neither the grant nor the code of what it had sent.
    Lie(
        "code_unknown",
        receipt(code_digest=OTHER_CODE, **FAILED),
        receipt(code_digest=OTHER_CODE, grant=None, **FAILED),
        "failed",
    ),
    Lie("backdated", an_offer_signed(600_001), an_offer_signed(600_000)),
    Lie("expired_grant", receipt_after_the_grant(1), receipt_after_the_grant(0)),
    Lie("too_many_rounds", receipt(rounds=3), receipt(rounds=2)),
    Lie("duplicate_receipt", receipts(2), receipts(1), "completed"),
    Lie("duplicate_receipt", ends("failed", "failed"), ends("failed", "refused"), "failed"),
    Lie(
        "contradicting_receipt",
        ends("completed", "failed"),
        ends("completed", "refused"),
        "failed later",
    ),
    Lie(
        "contradicting_receipt",
        ends("failed", "completed"),
        ends("refused", "completed"),
        "failed before",
    ),
    Lie("over_quota", uses(4), uses(3)),
    *(
        Lie(
            "over_quota",
            uses_of_which_one_is_revoked(5, first=first),
            uses_of_which_one_is_revoked(4, first=first),
            f"one revoked {'before' if first else 'after'} its receipt",
        )
        for first in (False, True)
    ),
    *(
        Lie(
            "revoked",
            receipt_after_revoking(what, seen=True),
            receipt_after_revoking(what, seen=False),
            f"{what} before a receipt",
        )
        for what in ("grant", "job", "researcher", "another asset", "another provider")
    ),
    *(
        Lie(
            "revoked",
            after_revoking_a_job(then, the_same=True),
            after_revoking_a_job(then, the_same=False),
            f"job before a {then}",
        )
        for then in ("grant", "release")
    ),
    Lie("revoked", revoked("asset", an_offer), revoked("asset", an_offer, before=False), "asset"),
    Lie(
        "revoked",
        revoked("offer", an_agreement),
        revoked("offer", an_agreement, before=False),
        "offer",
    ),
    Lie(
        "revoked",
        revoked("agreement", grant()),
        revoked("agreement", grant(), before=False),
        "agreement",
    ),
    Lie("revoked_key", revoked("id", an_offer), revoked("id", an_offer, before=False), "owner"),
    Lie("release_without_receipts", release(without=1), release(), "missing"),
    Lie(
        "release_without_receipts",
        release_resting_on_a_refusal(refused=True),
        release_resting_on_a_refusal(refused=False),
        "failed",
    ),
    Lie("contributions_differ", release(changed_reply=True), release()),
    Lie("duplicate_release", release(times=2), release(times=1)),
    Lie("settlement_mismatch", settled(one_line_short), settled(), "line"),
    Lie("settlement_mismatch", settled(billed_to_another), settled(), "researcher"),
    Lie(
        "settlement_mismatch",
        settled_for_another_job(another=True),
        settled_for_another_job(another=False),
        "job",
    ),
    Lie("wrong_price", settled(dearer), settled(), "price"),
    Lie("wrong_price", settled(paid_to_another), settled(), "provider"),
    Lie("wrong_fee", settled(greedy), settled(), "fee"),
    Lie("unbalanced", settled(skimmed), settled()),
    Lie("duplicate_settlement", settled_times(2), settled_times(1)),
]


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("enrolled") / "world", 3)


@pytest.fixture
def world(enrolled: World, tmp_path: Path) -> World:
    return enrolled.copy(tmp_path / "world")


def world_for(lie: Lie, enrolled: World, folder: Path) -> World:
    return enrolled.copy(folder) if lie.enrolled else World(folder, 3, enrolled=False)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: f"{lie.code} {lie.about}".strip())
def test_a_lie_in_the_log_is_the_one_finding_and_its_twin_is_sound(
    lie: Lie, enrolled: World, tmp_path: Path
):
    world = world_for(lie, enrolled, tmp_path / "lie")
    lie.story(world)
    verdict = world.audit()
    assert [finding.code for finding in verdict.findings] == [lie.code]
    assert verdict.missing == []
    assert verdict.status == "tampered"
    assert verdict.findings[0].where.startswith("entry ")
    assert world.log.findings == [verdict.findings[0].message]

    honest = world_for(lie, enrolled, tmp_path / "twin")
    lie.twin(honest)
    verdict = honest.audit()
    assert (verdict.status, verdict.findings, verdict.missing) == ("sound", [], [])


def test_every_kind_says_when_it_was_signed():
    for kind in BY_MEDIA_TYPE.values():
        assert "issued" in {item.name for item in dataclasses.fields(kind)}


def test_every_code_of_the_rules_has_a_lie():
    # What the sequence of entries breaks needs a folder that no log writes: see
    # tests/properties/test_audit_mutations.py.
    written, of_history = {"references_mismatch"}, {"unknown_reference"}
    # A log never repeats a statement: see tests/unit/test_admission.py.
    written |= {"duplicate_statement"}
    # Agreements with a budget are those of tests/unit/test_budget.py.
    written |= {"overspent_budget", "unmetered"}
    sources = "".join(Path(each.__file__).read_text() for each in (rules, kind_rules))
    codes = re.findall(r'require\(\s*"(\w+)"|RuleError\(\s*"(\w+)"', sources)
    assert {"".join(pair) for pair in codes} == ({lie.code for lie in LIES} | written) - of_history


def test_recipient_outside_the_terms(tmp_path: Path):
    world = World(tmp_path / "lie", 3, terms={"recipients": ("participant:" + "0" * 64,)})
    grant()(world)
    assert [finding.code for finding in world.audit().findings] == ["outside_terms"]
    world = World(tmp_path / "twin", 3, terms={"recipients": ("*",)})
    grant()(world)
    assert world.audit().status == "sound"


def test_a_receipt_signed_by_anybody_but_the_node_is_a_bad_signature(world: World):
    job, grants = world.granted_job()
    statement = world.receipt(world.providers[0], job, grants[0])
    with pytest.raises(SignatureError, match="entry"):
        world.put(statement.sign(world.providers[0].key))
    world.put(statement.sign(world.node_key(world.providers[0])))
    world.insecure_put(replace(statement, asset=world.providers[1].asset).sign(key_of("x.example")))
    assert [finding.code for finding in world.audit().findings] == ["bad_signature"]


def test_what_the_log_would_show_is_refused_before_it_is_logged(enrolled: World, tmp_path: Path):
    # The same function guards the server's door: no lie of the table gets in by `put`.
    for number, lie in enumerate(item for item in LIES if item.enrolled):
        if number % 6:
            continue
        world = enrolled.copy(tmp_path / str(number))
        world.insecure_put, kept = world.put, world.log.findings
        with pytest.raises(RuleError) as caught:
            lie.story(world)
        assert caught.value.code == lie.code
        assert kept == []


def test_check_leaves_the_history_as_it_was(world: World):
    before = (world.log.history.size, dict(world.log.history.checked))
    world.log.check(world.sign(world.job()))
    assert (world.log.history.size, dict(world.log.history.checked)) == before


def test_a_grant_under_an_agreement_that_is_not_the_jobs(world: World):
    # The job is a lie already; a grant for it is one too, for a node that cannot read all of it.
    job_by_a_second_researcher(with_own_agreements=False)(world)
    job = list(world.statements)[-1]
    world.insecure_put(world.grant(world.providers[0], job))
    codes = [finding.code for finding in world.audit().findings]
    assert codes == ["agreement_mismatch", "grant_mismatch"]


def test_node_key_ends_with_its_asset(world: World):
    job, grants = world.granted_job()
    first = world.providers[0]
    size = world.log.size
    world.put(world.revoke(first, first.asset))
    world.insecure_put(world.receipt(first, job, grants[0], log_size=size))
    assert [finding.code for finding in world.audit().findings] == ["revoked_key"]


def test_an_authors_statement_in_the_history_is_what_was_signed(tmp_path: Path):
    world = World.with_one_use(tmp_path, 3)
    assert world.use is not None
    logged = world.log.history.by_id[world.use.receipts[0]]
    assert isinstance(logged.statement, Receipt)
    assert logged.statement == read(world.openings()[logged.index].envelope).statement


def test_an_unverified_statement_verifies_only_under_all_of_its_keys(world: World):
    envelope = world.sign(world.agreement(world.providers[0]))
    unverified: Unverified = read(envelope)
    keys = [world.providers[0].key.verify_key, world.researcher.key.verify_key]
    assert unverified.verify(*keys) == unverified.statement
    with pytest.raises(SignatureError):
        unverified.verify(keys[0])
    with pytest.raises(SignatureError):
        unverified.verify(*keys, world.operator.key.verify_key)


def test_a_rule_that_needs_a_sealed_entry_says_so(world: World):
    world.put(world.offer(world.providers[0]))
    offer_index = world.log.size - 1
    # Without its author's own entry not even the signature can be checked.
    verdict = world.audit(opened=[offer_index])
    assert [(item.code, item.where) for item in verdict.missing] == [
        ("sealed_evidence", f"entry {offer_index}")
    ]
    assert (verdict.status, verdict.sealed) == ("incomplete", offer_index)
    # With it all that is declared open was verified; what it rests on stayed sealed.
    author = world.log.index_of(world.providers[0].id)
    verdict = world.audit(opened=[0, author, offer_index])
    assert (verdict.status, verdict.missing, verdict.unchecked) == ("sound", [], 1)
    assert world.audit(opened=range(world.log.size)).unchecked == 0
    with pytest.raises(EvidenceError):
        world.log.history.get("asset:" + "0" * 64, Receipt)
