"""A node's journal against the log: one true journal, and each way in which another lies."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

import pytest

from ledger.finding import Finding
from ledger.ids import short
from ledger.journal import JournalLine, next_head, write_journal
from ledger.journal_check import GRACE_MILLISECONDS, check_journal
from ledger.statements import Counts, JournalPosition, Receipt, read
from ledger.tally import Tally
from ledger.verify import audit
from tests.drafts import SECOND
from tests.world import World

Change = Callable[[list[JournalLine]], list[JournalLine]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two uses, closed by their nodes, and nothing pending."""
    world = World(tmp_path / "world", 2)
    world.put(world.schedule(epoch_entries=8, grace_entries=4))
    world.one_use()
    world.one_use()
    settle(world)
    assert codes(world) == []
    assert marked(world) == 4
    return world


def settle(world: World) -> None:
    world.close_epochs()
    for _ in range(4):
        world.put(world.offer(world.providers[0]))


def codes(world: World, data: bytes | None = None) -> list[str]:
    """What is found by one who reads everything, and by one who read the beginning before."""
    journal = world.journal(world.providers[0]) if data is None else data
    account = check_journal(world.log.history, journal, "journals/000")
    tally = TALLIES.setdefault(world, Tally(world.log.history))
    tally.go_on()
    tally = TALLIES[world] = Tally.recall(world.log.history, json.loads(json.dumps(tally.facts())))
    again = check_journal(world.log.history, journal, "journals/000", tally)
    for item in (account, again):
        item.ended = {}  # what was read now
    assert account == again
    return [item.code for item in account.findings]


TALLIES: WeakKeyDictionary[World, Tally] = WeakKeyDictionary()


def marked(world: World) -> int:
    """How many lines of the first journal need not be read again."""
    return TALLIES[world].marks[world.providers[0].asset].place.sequence


def rewritten(world: World, change: Change) -> bytes:
    """The journal as a lying node hands it out: changed, chained and signed anew."""
    provider, chained = world.providers[0], []
    head = world.journal_position("nobody").head
    for number, line in enumerate(change(list(world.journals[provider.asset])), start=1):
        head = next_head(head, number, line.time, line.kind, line.body)
        chained.append(JournalLine(number, line.time, line.kind, line.body, head))
    return write_journal(provider.asset, chained, world.node_key(provider), now=world.clock())


def receipts(world: World) -> list[str]:
    asset = world.providers[0].asset
    found = world.statements.items()
    return [i for i, item in found if isinstance(item, Receipt) and item.asset == asset]


def test_a_true_journal_agrees_with_the_log(world: World):
    account = check_journal(world.log.history, world.journal(world.providers[0]), "journals/000")
    assert account.findings == []
    assert (account.lines, len(account.launched), set(account.ended.values())) == (
        4,
        2,
        {"completed"},
    )
    assert codes(world, rewritten(world, list)) == []


def test_a_damaged_journal_is_one_finding(world: World):
    data = world.journal(world.providers[0])
    assert codes(world, data.replace(b"launch", b"lunch!", 1)) == ["damaged_journal"]
    assert codes(world, b"") == ["damaged_journal"]


def test_a_journal_is_signed_by_its_own_node(world: World):
    provider, other = world.providers
    lines = world.journals[provider.asset]
    data = write_journal(provider.asset, lines, world.node_key(other), now=world.clock())
    assert codes(world, data) == ["damaged_journal"]


def test_a_journal_of_an_asset_that_nobody_listed(world: World):
    key = world.node_key(world.providers[0])
    data = write_journal("asset:" + 64 * "0", [], key, now=world.clock())
    assert codes(world, data) == ["unknown_journal"]


def drop_first_job(lines: list[JournalLine]) -> list[JournalLine]:
    return lines[2:]


def drop_last_job(lines: list[JournalLine]) -> list[JournalLine]:
    return lines[:2]


def other_time(lines: list[JournalLine]) -> list[JournalLine]:
    return [replace(lines[0], time=lines[0].time + 1), *lines[1:]]


def other_state(lines: list[JournalLine]) -> list[JournalLine]:
    return [*lines[:-1], replace(lines[-1], body=lines[-1].body | {"state": "failed"})]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (drop_first_job, "missing_line"),
        (drop_last_job, "journal_mismatch"),
        (other_time, "journal_mismatch"),
        (other_state, "journal_mismatch"),
    ],
)
def test_a_journal_written_anew_parts_from_the_log(world: World, change: Change, code: str):
    assert codes(world, rewritten(world, change)) == [code]


def unlogged(world: World) -> None:
    provider = world.providers[0]
    job = "job:" + 64 * "a"
    world.journal_line(provider.asset, "launch", asset=provider.asset, job=job)
    world.journal_line(
        provider.asset, "finish", asset=provider.asset, job=job, state="completed",
        receipt="receipt:" + 64 * "b",
    )  # fmt: skip


def test_a_job_beside_the_log_is_found_once_it_is_due(world: World):
    unlogged(world)
    assert codes(world) == []
    settle(world)
    # Told once: that its receipt is missing too follows from it.
    assert codes(world) == ["unlogged_job"]


def test_an_omitted_receipt_is_found_by_its_line(world: World):
    provider = world.providers[0]
    job, grants = world.granted_job()
    receipt = world.receipt(provider, job, grants[0], state="failed", reason="task_error")
    world.journal_line(
        provider.asset, "finish", asset=provider.asset, job=job, state="failed",
        receipt="receipt:" + 64 * "c",
    )  # fmt: skip
    assert receipt.job == job
    settle(world)
    found = check_journal(world.log.history, world.journal(provider), "journals/000").findings
    assert [item.code for item in found] == ["missing_receipt"]
    assert found[0].entries == (world.log.index_of(job),)


def test_a_launch_without_an_end(world: World):
    provider = world.providers[0]
    job, _ = world.granted_job()
    world.journal_line(provider.asset, "launch", asset=provider.asset, job=job)
    assert codes(world) == []
    settle(world)
    assert codes(world) == ["unfinished_job"]


def test_a_close_that_counts_otherwise(tmp_path: Path):
    world = World(tmp_path / "world", 1)
    world.put(world.schedule(epoch_entries=8, grace_entries=4))
    world.one_use()
    close = world.epoch(world.providers[0])
    world.put(replace(close, counts=Counts(1, 0, 1, 0)))
    assert codes(world) == ["wrong_counts"]


def test_without_a_schedule_an_hour_is_waited(tmp_path: Path):
    world = World.with_one_use(tmp_path / "world", 2)
    unlogged(world)
    world.clock.advance(GRACE_MILLISECONDS - 2 * SECOND)
    world.put(world.offer(world.providers[0]))
    assert codes(world) == []
    world.clock.advance(2 * SECOND)
    world.put(world.offer(world.providers[0]))
    assert codes(world) == ["unlogged_job"]


def test_a_journal_fetched_earlier_is_no_shorter_journal(world: World):
    early = world.journal(world.providers[0])
    world.one_use()
    assert codes(world, early) == []


def test_lines_about_what_may_be_sealed_are_told_together(world: World, tmp_path: Path):
    """Nobody knows which of the lines a sealed entry is about, so none is named as the lie."""
    provider = world.providers[0]
    job, grants = world.granted_job()
    ghosts = ["job:" + 64 * letter for letter in "ab"]
    for ghost in ghosts:
        world.journal_line(provider.asset, "launch", asset=provider.asset, job=ghost)
    world.put(world.receipt(provider, job, grants[0]))
    settle(world)

    def findings(*sealed: int) -> list[Finding]:
        opened = [index for index in range(world.log.size) if index not in sealed]
        folder = world.export(tmp_path / f"without {len(sealed)}", opened)
        history = audit(folder, world.log.vkey).history
        return check_journal(history, world.journal(provider), "journals/000").findings

    assert [item.code for item in findings()] == ["unlogged_job", "unlogged_job"]
    steps = [entry for entry in world.entries() if world.log.index_of(job) in entry.references]
    hidden = [world.log.index_of(job), *(entry.index for entry in steps)]
    (found,) = [item for item in findings(*hidden) if item.code == "unlogged_job"]
    assert (found.where, found.entries) == (f"journal of {short(provider.asset)}", ())
    assert "in 2 of 3 lines" in found.message


@pytest.mark.parametrize(("kind", "told"), [("reply", []), ("launch", ["unlogged_job"])])
def test_what_a_node_notes_beside_launches_and_ends_is_its_own(
    world: World, kind: str, told: list[str]
):
    provider = world.providers[0]
    world.journal_line(provider.asset, kind, asset=provider.asset, job="job:" + 64 * "a")
    settle(world)
    assert codes(world) == told


def test_what_was_right_is_not_read_again(world: World):
    world.one_use()
    before = marked(world)
    assert codes(world) == []
    assert marked(world) == before
    settle(world)
    assert codes(world) == []
    assert marked(world) == before + 2
    # The mark may stand nowhere but at what was right; a damaged one is another journal.
    TALLIES[world].marks[world.providers[0].asset].digest = 64 * "0"
    assert codes(world) == []


@pytest.mark.parametrize("sequence", [0, 1, 3, 4, 5])
def test_a_receipt_that_comes_late_is_held_against_every_line(world: World, sequence: int):
    provider = world.providers[0]
    job, grants = world.granted_job()
    receipt = world.receipt(provider, job, grants[0])
    position = JournalPosition(sequence, "sha256:" + 64 * "0")
    world.insecure_put(replace(receipt, journal=position))
    # One that names another's line is a fork, which is told where receipts are counted.
    expected = [] if sequence in (1, 3) else ["journal_mismatch"]
    assert codes(world) == expected
    settle(world)
    assert codes(world) == expected


def test_a_job_that_is_launched_again_is_counted_once(world: World):
    provider = world.providers[0]
    (job, _) = next(
        (line.body["job"], line) for line in world.journals[provider.asset] if "job" in line.body
    )
    world.journal_line(provider.asset, "launch", asset=provider.asset, job=job)
    settle(world)
    assert codes(world) == []


def test_a_refusal_before_the_launch_is_an_end(world: World):
    provider = world.providers[0]
    job, _ = world.granted_job()
    line = {"asset": provider.asset, "job": job}
    receipt = "receipt:" + 64 * "d"
    world.journal_line(provider.asset, "finish", **line, receipt=receipt, state="refused")
    world.log.history.named[receipt] = 1
    settle(world)
    assert codes(world) == []
    world.journal_line(provider.asset, "launch", **line)
    settle(world)
    assert codes(world) == []


def test_what_lacks_at_the_mark_is_found_when_nothing_sealed_explains_it(world: World):
    history = world.log.history
    index = world.log.index_of(world.providers[0].asset)
    history.sealed_jobs[index] = history.sealed_receipts[index] = [10_000]
    unlogged(world)
    settle(world)
    assert codes(world) == []
    assert marked(world) == 6
    unlogged_again = {"asset": world.providers[0].asset, "job": "job:" + 64 * "e"}
    world.journal_line(world.providers[0].asset, "launch", **unlogged_again)
    settle(world)
    assert codes(world)[0] == "unlogged_job"


@pytest.mark.parametrize("granted", [False, True])
def test_a_launch_needs_a_grant_in_the_log(world: World, *, granted: bool):
    """A job that was computed without a grant, and said to have failed, was once no finding."""
    provider, job = world.providers[0], world.put(world.job())
    if granted:
        world.put(world.grant(provider, job))
    world.put(world.receipt(provider, job, None, state="failed", reason="task_error"))
    assert codes(world) == []  # the grant may still come
    settle(world)
    assert codes(world) == ([] if granted else ["ungranted_job"])
    assert marked(world) == (6 if granted else 4)
    account = check_journal(world.log.history, world.journal(provider), "journals/000")
    place = f"line 5 of the journal of {short(provider.asset)}"
    message = f"launched {short(job)}, and no grant in the log permits it"
    told = Finding("ungranted_job", place, message, (world.log.index_of(job),))
    assert account.findings == ([] if granted else [told])


def test_a_grant_that_stayed_sealed_may_be_the_one(world: World):
    """Its entry says for which job and asset it is, and only whoever may read it knows the rest."""
    provider, job = world.providers[0], world.put(world.job())
    grant = world.put(world.grant(provider, job))
    world.put(world.receipt(provider, job, None, state="failed", reason="task_error"))
    settle(world)
    opened = set(range(world.log.size)) - {world.log.index_of(grant)}
    history = audit(world.export(world.folder / "sealed", opened), world.log.vkey).history
    assert grant not in history.by_id
    assert check_journal(history, world.journal(provider), "journals/000").findings == []


def test_a_job_that_does_not_name_the_asset_cannot_be_granted_for_it(world: World):
    provider, other = world.providers
    stranger = world.job(assets=(other.asset,), agreements=(other.agreement,))
    job = world.put(stranger)
    world.put(world.receipt(provider, job, None, state="failed", reason="task_error"))
    settle(world)
    assert codes(world) == ["ungranted_job"]


@pytest.mark.parametrize("state", ["completed", "failed", "refused"])
def test_what_was_completed_was_launched(world: World, state: str):
    """A job may be cancelled, or refused, before it begins."""
    provider = world.providers[0]
    job, (grant, _) = world.granted_job()
    refusal = world.receipt(provider, job, grant, state="refused", reason="not_proven")
    changes = {
        "completed": {"reason": None, "contributions": world.contributions(provider, job)},
        "failed": {"reason": "task_error"},
        "refused": {},
    }[state]
    world.put(replace(refusal, state=state, **changes))
    expected = ["unlaunched_job"] if state == "completed" else []
    assert codes(world) == expected
    settle(world)
    assert codes(world) == expected
    assert marked(world) == (4 if expected else 5)


@pytest.mark.parametrize("lie", ["", "head", "sequence", "state"])
def test_a_receipt_that_lacked_at_the_mark_is_held_against_its_line(world: World, lie: str):
    history, provider = world.log.history, world.providers[0]
    # It may be sealed, so nothing is said of it while it lacks, and reading goes on behind it.
    history.sealed_receipts[world.log.index_of(provider.asset)] = [10_000]
    job, grants = world.granted_job()
    receipt = world.receipt(provider, job, grants[0])
    if lie in ("head", "sequence"):
        changed = {"head": "sha256:" + 64 * "0", "sequence": receipt.journal.sequence - 1}
        position = replace(receipt.journal, **{lie: changed[lie]})
        receipt = replace(receipt, journal=position)
    world.journal_line(
        provider.asset, "finish", asset=provider.asset, job=job,
        state="failed" if lie == "state" else "completed",
        receipt=read(world.sign(receipt)).id,
    )  # fmt: skip
    settle(world)
    assert codes(world) == []
    assert marked(world) == 6
    world.insecure_put(receipt)
    world.journals[provider.asset].pop()  # the line is there already
    assert bool(codes(world)) == bool(lie)
