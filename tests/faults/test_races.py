"""Two processes at one node's journal, both wanting the last permitted use: one gets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from federated.errors import RefusedError
from federated.node.guard import Ask, Limits, decide
from federated.node.journal import Journal
from ledger.history import History
from ledger.merkle import leaf_hash
from ledger.rules import admit
from tests.drafts import CODE
from tests.world import World

RACERS = 2


def competing_jobs(folder: Path, tries: int) -> World:
    """A log with two granted jobs a try, each try under an agreement with one use left."""
    world = World(folder, providers=2, terms={"uses": 1, "minimum_parties": 2})
    first = world.providers[0]
    lines = []
    for _ in range(tries):
        for provider in world.providers:
            provider.agreement = world.put(world.agreement(provider))
        jobs = [world.put(world.job()) for _ in range(RACERS)]
        lines.append("\t".join([first.agreement, *jobs]))
    (folder / "tries").write_text("\n".join(lines))
    (folder / "asset").write_text(first.asset)
    (folder / "now").write_text(str(world.clock()))
    (folder / "entries").write_bytes(b"\n".join(world.log.entry_bytes(0, world.log.size)))
    (folder / "openings").write_bytes(b"\n".join(item.to_bytes() for item in world.openings()))
    return world


def read_history(folder: Path) -> History:
    """What a node has verified: the same in each process, so only the journal decides."""
    from ledger.entry import Entry, Opening

    history = History()
    leaves = (folder / "entries").read_bytes().split(b"\n")
    openings = (folder / "openings").read_bytes().split(b"\n")
    for leaf, opening in zip(leaves, openings, strict=True):
        entry = Entry.from_bytes(leaf)
        admit(history, entry, leaf_hash(leaf), Opening.from_bytes(opening).reveal(entry))
    return history


def race(folder: Path, racer: int) -> None:
    """Run in a process of its own: try each last use as soon as it is called out."""
    history, asset = read_history(folder), (folder / "asset").read_text()
    now = int((folder / "now").read_text())
    journal = Journal(folder / "journal.db", lambda: now)
    print("ready", flush=True)  # noqa: T201 - how the test is told
    for line in (folder / "tries").read_text().splitlines():
        sys.stdin.readline()
        agreement, *jobs = line.split("\t")
        print(take(journal, history, asset, jobs[racer], now), agreement, flush=True)  # noqa: T201


def take(journal: Journal, history: History, asset: str, job: str, now: int) -> str:
    """Decide and reserve as the node does, in one transaction."""
    try:
        with journal.write() as book:
            permit = decide(
                Ask(job, asset),
                history,
                book.spent(asset, job),
                now=now,
                code=lambda _: CODE,
                limits=Limits(),
            )
            book.reserve(job, asset, permit.agreement_id, permit.preparation)
    except RefusedError as error:
        return error.reason
    return "reserved"


def run_race(folder: Path, tries: int) -> list[list[str]]:
    """Return, for each try, what each process got."""
    competing_jobs(folder, tries)
    program = "import sys; from pathlib import Path; from tests.faults.test_races import race; "
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"{program}race(Path(sys.argv[1]), {racer})", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for racer in range(RACERS)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return [_one_try(processes) for _ in range(tries)]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _one_try(processes: list[subprocess.Popen[str]]) -> list[str]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(process.stdout.readline().split()[0])
    return answers


def check(folder: Path, tries: int) -> None:
    outcomes = run_race(folder, tries)
    assert len(outcomes) == tries
    assert all(sorted(each) == ["quota_used_up", "reserved"] for each in outcomes), outcomes
    journal = Journal(folder / "journal.db", lambda: 0)
    assert journal.verify().sequence == tries
    journal.close()


def test_of_two_processes_one_gets_the_last_use(tmp_path: Path):
    check(tmp_path, 25)


@pytest.mark.slow
def test_of_two_processes_one_gets_the_last_use_in_200_tries(tmp_path: Path):
    check(tmp_path, 200)


def test_apart_from_one_transaction_both_would_get_it(tmp_path: Path):
    # The twin: what was read before the lock was taken is not what stands when it is held.
    competing_jobs(tmp_path, 1)
    history, asset = read_history(tmp_path), (tmp_path / "asset").read_text()
    now = int((tmp_path / "now").read_text())
    _, *jobs = (tmp_path / "tries").read_text().split("\t")
    journals = [Journal(tmp_path / "journal.db", lambda: now) for _ in range(RACERS)]
    permits = []
    for journal, job in zip(journals, jobs, strict=True):
        with journal.write() as book:
            spent = book.spent(asset, job)
        permits.append(
            decide(Ask(job, asset), history, spent, now=now, code=lambda _: CODE, limits=Limits())
        )
    for journal, job, permit in zip(journals, jobs, permits, strict=True):
        with journal.write() as book:
            book.reserve(job, asset, permit.agreement_id, permit.preparation)
    with journals[0].write() as book:
        assert book.spent(asset, "job:next").jobs(permits[0].agreement_id) == set(jobs)
    for journal in journals:
        journal.close()
