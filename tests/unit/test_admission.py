"""What an entry refers to, and where it stands, whether or not its statement is opened."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.entry import KINDS, Entry, Opening
from ledger.errors import StatementError
from ledger.kind_rules import as_kind
from ledger.reconcile import reconcile
from ledger.rules import Case
from ledger.statements import Job, Offer
from ledger.verify import Verdict, audit, verify
from tests.drafts import Party, key_of
from tests.forgery import chain, insecure_export, repeating
from tests.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_one_use(tmp_path_factory.mktemp("world"), 2)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in range(100))


def verdict_on(
    world: World, folder: Path, changed: Entry | None = None, sealed: int | None = None
) -> Verdict:
    """What is said of the world's log with one entry changed, the chain mended, one sealed."""
    entries, openings = world.entries(), world.openings()
    if changed is not None:
        entries[changed.index] = changed
    shown: list[Opening] = [item for item in openings if item.index != sealed]
    return verify(insecure_export(folder, world.log_key, chain(entries), shown), world.log.vkey)


def first(world: World, kind: str) -> Entry:
    return next(entry for entry in world.entries() if entry.kind == kind)


def codes(verdict: Verdict) -> set[tuple[str, str]]:
    return {(item.code, item.where) for item in verdict.findings}


@pytest.mark.parametrize("kind", ["offer", "grant", "release", "settlement"])
def test_a_sealed_entry_names_all_that_it_rests_on(
    world: World, folders: Iterator[Path], kind: str
):
    entry = first(world, kind)
    assert codes(verdict_on(world, next(folders), entry, entry.index)) == set()
    for place in range(len(entry.references)):
        named = list(entry.references)
        named[place] = None
        changed = replace(entry, references=tuple(named))
        verdict = verdict_on(world, next(folders), changed, entry.index)
        assert codes(verdict) == {("references_mismatch", f"entry {entry.index}")}


def test_a_sealed_refusal_may_lack_job_and_grant_but_not_its_asset(
    world: World, folders: Iterator[Path]
):
    entry = first(world, "receipt")
    asset, job, grant = entry.references
    for references, wrong in (
        ((asset, None, None), False),
        ((asset, job, None), False),
        ((None, job, grant), True),
    ):
        changed = replace(entry, references=references)
        found = codes(verdict_on(world, next(folders), changed, entry.index))
        assert (("references_mismatch", f"entry {entry.index}") in found) == wrong


@pytest.mark.parametrize("kind", ["job", "release", "settlement"])
def test_an_entry_refers_to_as_much_as_its_statement(
    world: World, folders: Iterator[Path], kind: str
):
    """Of what these rest on there may be any number, so only the statement tells how many."""
    entry = first(world, kind)
    for references in (entry.references[:-1], (*entry.references, entry.references[-1])):
        changed = replace(entry, references=references)
        found = codes(verdict_on(world, next(folders), changed))
        assert ("references_mismatch", f"entry {entry.index}") in found
    assert codes(verdict_on(world, next(folders), entry)) == set()


def test_a_sealed_entry_stands_where_it_should(world: World, folders: Iterator[Path]):
    entry = first(world, "settlement")
    changed = replace(entry, time=world.entries()[entry.index - 1].time - 1)
    for sealed in (None, entry.index):
        found = codes(verdict_on(world, next(folders), changed, sealed))
        assert found == {("time_goes_back", f"entry {entry.index}")}
    assert codes(verdict_on(world, next(folders), None, entry.index)) == set()


def test_a_rule_is_asked_about_its_own_kind_alone(world: World):
    history = world.log.history
    logged = history.by_id[world.providers[0].offer]
    case = Case(history, logged, {})
    assert as_kind(case, Offer) is logged.statement
    with pytest.raises(StatementError, match=f"entry {logged.index} is no job"):
        as_kind(case, Job)


@pytest.mark.parametrize("kind", ["job", "release"])
def test_an_entry_refers_to_what_its_statement_names(
    world: World, folders: Iterator[Path], kind: str
):
    entry = first(world, kind)
    swapped = (*entry.references[:-2], *reversed(entry.references[-2:]))
    assert set(swapped) == set(entry.references) != {None}
    found = codes(verdict_on(world, next(folders), replace(entry, references=swapped)))
    assert ("references_mismatch", f"entry {entry.index}") in found


def test_an_entry_refers_to_nothing_where_its_statement_names_nothing(
    world: World, folders: Iterator[Path]
):
    world = world.copy(next(folders))
    refusal = world.receipt(
        world.providers[0], "job:" + 64 * "0", None, state="refused", reason="not_proven"
    )
    index = world.log.index_of(world.put(refusal))
    entry = world.entries()[index]
    assert entry.references[2] is None
    for grant in (None, first(world, "grant").index):
        changed = replace(entry, references=(*entry.references[:2], grant))
        found = codes(verdict_on(world, next(folders), changed))
        assert (("references_mismatch", f"entry {index}") in found) == (grant is not None)


def test_an_operator_whose_enrolment_stays_sealed_is_not_called_absent(
    world: World, folders: Iterator[Path]
):
    """An honest log that was exported without its first entry seemed to be forged."""
    verdict = verdict_on(world, next(folders), sealed=0)
    assert (verdict.status, verdict.findings) == ("incomplete", [])
    assert {item.code for item in verdict.missing} == {"sealed_evidence"}
    assert verdict_on(world, next(folders)).status == "sound"


def test_a_second_operator_is_found_though_the_first_stays_sealed(
    world: World, folders: Iterator[Path]
):
    world = world.copy(next(folders))
    rival = Party("rival.example", key_of("rival.example"))
    index = world.log.index_of(
        world.insecure_put(world.participant(rival, "operator").sign(rival.key))
    )
    for sealed in (None, 0):
        found = codes(verdict_on(world, next(folders), sealed=sealed))
        assert found == {("second_operator", f"entry {index}")}


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_every_kind(tmp_path_factory.mktemp("world"))


# Its settlement is erased.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"settlement"}))
def test_a_statement_stands_once(every: World, folders: Iterator[Path], kind: str):
    """An operator who logged a grant again once made an honest receipt seem to come before it."""
    done = audit(repeating(every, next(folders), kind), every.log.vkey)
    honest, history = every.log.history, done.history
    again = honest.size
    assert codes(done.verdict) == {("duplicate_statement", f"entry {again}")}
    assert (history.repeats, history.broken) == ({again}, honest.broken)
    places = {name: logged.index for name, logged in honest.by_id.items()}
    assert {name: logged.index for name, logged in history.by_id.items()} == places
    assert reconcile(history).findings == reconcile(honest).findings == ()


@pytest.mark.parametrize("kind", ["agreement", "grant", "receipt"])
def test_what_is_sealed_where_it_stood_first_is_known_by_its_name(
    every: World, folders: Iterator[Path], kind: str
):
    place = first(every, kind).index
    assert codes(verdict_on(every, next(folders), sealed=place)) == set()
    entries, openings = every.entries(), every.openings()
    index, opening = len(entries), next(item for item in openings if item.index == place)
    entries.append(replace(entries[place], index=index, time=entries[-1].time))
    shown = [*(item for item in openings if item is not opening), replace(opening, index=index)]
    verdict = verify(
        insecure_export(next(folders), every.log_key, chain(entries), shown), every.log.vkey
    )
    assert codes(verdict) == {("duplicate_statement", f"entry {index}")}


def test_a_repetition_in_the_wrong_place_breaks_nothing_but_itself(
    every: World, folders: Iterator[Path]
):
    entries, openings = every.entries(), every.openings()
    entries.append(replace(entries[3], index=len(entries)))
    openings.append(replace(openings[3], index=len(entries) - 1))
    folder = insecure_export(next(folders), every.log_key, chain(entries), openings)
    done = audit(folder, every.log.vkey)
    assert codes(done.verdict) == {("time_goes_back", f"entry {every.log.size}")}
    assert done.history.broken == every.log.history.broken
