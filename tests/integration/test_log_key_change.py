"""A market changes its log's key: nodes compute on, auditors follow, a thief gets nowhere."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger import checkpoint as checkpoints
from ledger.audit import command as audit
from ledger.checkpoint import Checkpoint
from ledger.errors import FetchError, LogError
from ledger.export import Extras, export
from ledger.keys import SigningKey
from ledger.mirror import Mirror
from ledger.monitor import Monitor
from ledger.source import ServerSource
from ledger.standing import standing
from ledger.succession import Succession, read_list, write_list
from ledger.trust import Policy
from ledger.verify import Plan, verify
from marketplace.client import Provider, Researcher, now_ms
from marketplace.database import open_database
from marketplace.embedded import Embedded
from marketplace.log_key_change import LogKeyChange, change_log_key
from marketplace.settings import Settings
from tests.stage import Play, open_stage, word

TABLES = dict.fromkeys(("North", "South"), "chol\n200\n250\n180\n300\n210\n190\n")


def settings_of(folder: Path) -> Settings:
    return Settings(folder=folder / "market" / "service")


def rotated(folder: Path, recovery: SigningKey | None = None) -> LogKeyChange:
    settings = settings_of(folder)
    engine = open_database(settings.where)
    try:
        return change_log_key(settings, engine, now_ms, recovery=recovery)
    finally:
        engine.dispose()


@contextmanager
def again(play: Play) -> Iterator[Play]:
    """The same market after a restart of everything."""
    for node in play.nodes:
        node._journal.close()
    market = Embedded(play.market.folder, play.market._settings, play.clock)
    with market:
        http, clock = market.http, play.clock
        stage = replace(
            play.stage,
            market=market,
            researcher=Researcher(play.researcher.home, http(), clock),
            seats=[
                replace(
                    seat,
                    client=Provider(seat.home, http(), clock),
                    node=market.nodes[seat.asset],
                )
                for seat in play.seats
            ],
        )
        yield Play(market, stage, clock, [])


def exported(play: Play, folder: Path) -> Path:
    log = play.market.app.state.context.log
    export(
        log,
        log._key,
        folder,
        opened=range(log.size),
        scope="everything",
        now=play.clock(),
        extras=Extras(succession=log.successions),
    )
    return folder


class Route:
    """The public read API as a monitor asks it, and an ear for what it was asked."""

    def __init__(self, http: httpx.Client, lies: dict[str, bytes] | None = None) -> None:
        self._http = http
        self._lies = lies or {}

    def get(self, path: str, limit: int) -> bytes:
        answer = self._http.get(path)
        data = self._lies.get(path, answer.content)
        if answer.is_error or len(data) > limit:
            raise FetchError(f"{path}: {answer.status_code}")
        return data


def source(play: Play, lies: dict[str, bytes] | None = None) -> Any:
    return ServerSource(Route(play.market.http(), lies), scoped=False)  # type: ignore[arg-type]


def test_nodes_and_auditors_follow_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with open_stage(tmp_path, TABLES) as play:
        play.run("statistics", columns=["chol"])
        before = exported(play, tmp_path / "before")
        with pytest.raises(LogError, match="another process writes"):
            rotated(tmp_path)
        assert play.market.http().get("/v1/log/successions").json() == {"successions": []}
        with Mirror(tmp_path / "monitor") as mirror:
            Monitor(mirror, Policy.of(play.market.log_key)).look(source(play))
    change = rotated(tmp_path)
    old, new = change.succession.old, change.succession.new
    with again(play) as play:
        assert play.market.log_key == new
        note = change.file.read_bytes()
        assert read_list(play.market.http().get("/v1/log/successions").content) == (note,)
        job = play.run("statistics", columns=["chol"])
        assert play.researcher.result(job)
        after = exported(play, tmp_path / "after")
        _monitor_follows(play, tmp_path / "monitor", old)
    # A restart finds in its memory what it followed.
    with again(play) as play:
        assert play.run("statistics", columns=["chol"])
    for folder, key in ((before, old), (after, old), (after, new)):
        assert verify(folder, key).status == "sound", (folder, key)
    (told,) = verify(after, old).key_changes
    assert told["size"] == change.succession.head.size
    assert (told["old"], told["new"], told["by"]) == (old.fingerprint, new.fingerprint, "key")
    assert told["time"] <= play.clock()
    assert verify(after, new).key_changes == verify(before, old).key_changes == []
    assert verify(after, old, Plan(structure_only=True)).key_changes == [told | {"time": None}]
    # In words, for a person.
    assert audit(["verify", str(after), "--key", old.text]) == 0
    shown = capsys.readouterr().out
    assert f"changed after {told['size']} entries, the last of 20" in shown
    assert f"by the old key\n         from {old.fingerprint} to {new.fingerprint}\n" in shown
    assert "(follows from the key you gave)" in shown


def _monitor_follows(play: Play, state: Path, old: Any) -> None:
    with Mirror(state) as mirror:
        monitor = Monitor(mirror, Policy.of(old))
        report = monitor.look(source(play, {"/v1/log/successions": write_list([])}))
        assert [item.code for item in report.missing] == ["untrusted"]
        report = monitor.look(source(play))
        assert (report.findings, report.missing) == ([], [])
        assert monitor.size == play.market.app.state.context.log.size
        assert monitor.checked["succession_heads"] == 1
        assert [item["by"] for item in standing(monitor).key_changes] == ["key"]
    # What it followed is remembered: a rival is refused, and so is the old key.
    thief = SigningKey.generate(old.name)
    with Mirror(state) as mirror:
        monitor = Monitor(mirror, Policy.of(old))
        head = monitor.key_changes[0].last
        assert head is not None
        stolen = SigningKey.load(state.parent / "stolen.key")
        rival = Succession(head, old, thief.verify_key).sign(thief, stolen)
        for lies, message in (
            ({"/v1/log/successions": write_list([rival])}, "two successions"),
            ({"/v1/log/checkpoint": _signed(monitor, stolen)}, "was retired at"),
        ):
            report = monitor.look(source(play, lies))
            assert message in report.missing[-1].message
        assert monitor.look(source(play)).missing == []


def _signed(monitor: Monitor, key: SigningKey) -> bytes:
    assert monitor.trusted is not None
    return checkpoints.sign(monitor.trusted.checkpoint, key)


@pytest.fixture(autouse=True)
def _stolen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the log's key before it is changed, as a thief would."""
    original = change_log_key

    def watched(settings: Settings, *args: Any, **kwargs: Any) -> LogKeyChange:
        copy = tmp_path / "stolen.key"
        if not copy.exists():
            SigningKey.load(settings.log_key).save(copy)
        return original(settings, *args, **kwargs)

    monkeypatch.setitem(globals(), "change_log_key", watched)


def test_a_thief_of_the_old_key_gets_no_node_to_compute(tmp_path: Path):
    with open_stage(tmp_path, TABLES) as play:
        pass
    rotated(tmp_path)
    stolen = SigningKey.load(tmp_path / "stolen.key")
    with again(play) as play:
        job = play.job("statistics", parameters={"columns": ["chol"]})
        grants = play.grant_all(job)
        asked = [play.keys_request(job, grant=grants[seat.asset]) for seat in play.seats]
        publisher = play.market.app.state.context.log._publisher
        honest = publisher.checkpoint
        head = checkpoints.open_checkpoint(honest, publisher._key.verify_key)
        publisher.checkpoint = checkpoints.sign(head, stolen)
        assert word(play.ask(0, asked[0])) == "not_proven"
        # The twin: under the key in office, the very same tree is believed.
        publisher.checkpoint = honest
        assert word(play.ask(1, asked[1])) == "keys"


def test_a_monitor_compares_the_tree_at_which_the_keys_change(tmp_path: Path):
    with open_stage(tmp_path, TABLES) as play:
        old, log = play.market.log_key, play.market.app.state.context.log
        new = SigningKey.generate(old.name)
        head = checkpoints.open_checkpoint(log.checkpoint(), old)
        for root, found in ((head.root, []), (bytes(32), ["split_view"])):
            at = Checkpoint(head.origin, head.size - 1, log._state.tree.root(head.size - 1))
            at = replace(at, root=at.root if root == head.root else root)
            note = Succession(at, old, new.verify_key).sign(new, log._key)
            lies = {
                "/v1/log/successions": write_list([note]),
                "/v1/log/checkpoint": checkpoints.sign(head, new),
            }
            with Mirror(tmp_path / f"monitor-{len(found)}") as mirror:
                monitor = Monitor(mirror, Policy.of(old))
                report = monitor.look(source(play, lies))
                assert [item.code for item in report.findings] == found
                assert monitor.look(source(play, lies)).findings == []
                assert [item.code for item in monitor.findings] == found


def test_the_verdict_names_a_recovery_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with open_stage(tmp_path, TABLES) as play:
        pass
    recovery = SigningKey.generate("rongshu.local/log")
    change = rotated(tmp_path, recovery)
    with again(play) as play:
        after = exported(play, tmp_path / "after")
    policy = tmp_path / "policy"
    policy.write_text(
        f"log {change.succession.old.text}\nrecovery {recovery.verify_key.text}\nquorum none\n"
    )
    assert audit(["verify", str(after), "--policy", str(policy), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert [item["by"] for item in verdict["key_changes"]] == ["recovery"]
    assert audit(["verify", str(after), "--policy", str(policy)]) == 0
    assert ", by a recovery key\n" in capsys.readouterr().out
