from pathlib import Path

import pytest

from ledger.errors import EvidenceFileError, LedgerError
from ledger.evidence import (
    CANARIES,
    PLANTER,
    RESULTS,
    ROSTER,
    TAG_KEYS,
    Held,
    read_lines,
    read_planter,
    read_results,
)
from ledger.history import History
from ledger.journal import write_journal
from ledger.merkle import leaf_hash
from ledger.reconcile import reconcile
from ledger.rules import admit
from ledger.statements import Release
from ledger.use_index import write_tag_keys
from tests.drafts import key_of, tag_key_of
from tests.world import World


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"), 2)
    world.put(world.schedule())
    world.one_use()
    return world


def test_what_is_held_is_given_to_the_reconciliation(tmp_path: Path, world: World):
    held = Held(tmp_path)
    assert list(held.pieces()) == []
    assert reconcile(world.log.history, held.evidence()).findings == ()
    for provider in world.providers:
        assert held.take_journal("journal", world.journal(provider)) == []
    keys = {provider.asset: tag_key_of(provider.name) for provider in world.providers}
    held.take(TAG_KEYS, write_tag_keys(keys))
    held.take(CANARIES, b"nonce 1\n\n")
    held.take(ROSTER, b"somebody+else\n")
    evidence = held.evidence()
    assert (evidence.tag_keys, tuple(evidence.canaries)) == (keys, ("nonce 1",))
    found = reconcile(world.log.history, held.evidence())
    assert found.checked["journals"] == 2
    assert {item.code for item in found.findings} == {"unknown_participant"}
    names = [piece.name for piece in held.pieces()]
    assert names[:1] + names[-2:] == [CANARIES, ROSTER, TAG_KEYS]
    assert len(names) == 5


def test_a_journal_that_goes_on_replaces_the_one_before(tmp_path: Path, world: World):
    held, provider = Held(tmp_path), world.providers[0]
    lines = world.journals[provider.asset]
    key = world.node_key(provider)
    shorter = write_journal(provider.asset, lines[:1], key, now=0)
    longer = write_journal(provider.asset, lines, key, now=1)
    for data in (shorter, shorter, longer, shorter):
        assert held.take_journal("journal", data) == []
        assert held.contradictions() == []
    (kept,) = (item for _, item in held.evidence().journals)
    assert kept == longer


def test_a_node_with_two_journals_is_found(tmp_path: Path, world: World):
    held, provider = Held(tmp_path), world.providers[0]
    held.take_journal("journal", world.journal(provider))
    twin = world.copy(tmp_path / "twin")
    twin.journals[provider.asset] = []
    twin.journal_line(provider.asset, "launch", asset=provider.asset, job="job:" + "0" * 64)
    assert held.take_journal("other", twin.journal(provider)) == []
    (found,) = held.contradictions()
    assert found.code == "journal_fork"
    assert len(list(held.pieces())) == 1
    # The log is held against the first; the other is kept as what contradicts it.
    assert [data for _, data in held.evidence().journals] == [world.journal(provider)]


def test_files_outside_their_format_are_refused(tmp_path: Path, world: World):
    held = Held(tmp_path)
    (found,) = held.take_journal("x", b"no journal")
    assert (found.code, found.where) == ("damaged_journal", "x")
    with pytest.raises(LedgerError, match="line 1"):
        held.take(TAG_KEYS, b"{}\n")
    for data in (b"\xff\n", b"x" * 2000, b"fine\n\x1b[2J\n"):
        with pytest.raises(EvidenceFileError, match="printable"):
            held.take(CANARIES, data)
    assert read_lines(b"") == ()
    assert list(held.pieces()) == []
    assert world.log_key != key_of("nobody")


def test_a_planted_job_is_missed_though_jobs_of_others_are_sealed(tmp_path: Path, world: World):
    """The planter's name tells its own sealed jobs from those of others."""
    held, history = Held(tmp_path), replayed_without_jobs(world)
    held.take(CANARIES, b"nonce 99\n")
    result = reconcile(history, held.evidence())
    assert (result.findings, [item.code for item in result.missing]) == ((), ["unseen_canary"])
    held.take(PLANTER, f"{world.providers[0].id}\n".encode())
    result = reconcile(history, held.evidence())
    assert ([item.code for item in result.findings], result.missing) == (["missing_canary"], ())
    held.take(PLANTER, f"{world.researcher.id}\n".encode())
    result = reconcile(history, held.evidence())
    assert (result.findings, [item.code for item in result.missing]) == ((), ["unseen_canary"])


def replayed_without_jobs(world: World) -> History:
    """The history of an auditor to whom jobs and what rests on them stay closed."""
    history = History()
    for entry, opening in zip(world.entries(), world.openings(), strict=True):
        closed = entry.kind in ("job", "grant", "receipt", "release", "settlement")
        opened = None if closed else opening.reveal(entry)
        admit(history, entry, leaf_hash(entry.to_bytes()), opened)
    return history


def test_results_of_buyers_are_compared(tmp_path: Path, world: World):
    held, history = Held(tmp_path), world.log.history
    (job, logged) = next(iter(history.released.items()))
    release = logged.statement
    assert isinstance(release, Release)
    held.take(RESULTS, f"{job} {release.result}\n".encode())
    result = reconcile(history, held.evidence())
    assert (result.findings, result.checked["results"]) == ((), 1)
    held.take(RESULTS, f"{job} sha256:{64 * '0'}\n".encode())
    assert [item.code for item in reconcile(history, held.evidence()).findings] == ["wrong_result"]


JOB = "job:" + 64 * "1"
DIGEST = "sha256:" + 64 * "2"


def test_planter_and_results_are_read_strictly():
    planter = "participant:" + 64 * "0"
    assert read_planter(f"{planter}\n".encode()) == planter
    for wrong in ("", JOB, "somebody", f"{planter}\n{planter}"):
        with pytest.raises(EvidenceFileError, match="planter"):
            read_planter(wrong.encode())
    assert read_results(f"{JOB} {DIGEST}\n".encode()) == {JOB: DIGEST}
    assert read_results(b"") == {}
    for wrong in (
        JOB,
        f"{JOB}  {DIGEST}",
        f"{JOB} {DIGEST[:-1]}",
        f"{DIGEST} {JOB}",
        f"{planter} {DIGEST}",
        f"{JOB} {DIGEST}\n{JOB} {DIGEST}",
    ):
        with pytest.raises(EvidenceFileError, match="result"):
            read_results(wrong.encode())
