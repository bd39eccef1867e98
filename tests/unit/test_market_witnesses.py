"""The service's side of witnesses: which policies it starts with, and what its log then shows."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.audit.witness_server import WitnessServer
from ledger.cosigning import Cosigner
from ledger.errors import CosigningError, InvalidKeyError, LogError
from ledger.keys import COSIGNATURE_MLDSA, CosignatureKey, CosigningKey
from ledger.log import Log
from ledger.note import split_unverified
from ledger.trust import Policy
from ledger.witness import Witness
from marketplace.app import running
from marketplace.cli import operate
from marketplace.errors import SettingsError
from marketplace.settings import Settings
from marketplace.witnesses import cosigner, kept_fresh
from tests.drafts import START, Clock, Party, key_of
from tests.world import World

LOG = key_of("rongshu.local/log")
KEY = CosigningKey.from_seed("witness.example", bytes(32))


def policy_file(folder: Path, url: str = "http://127.0.0.1:1", log: str = "") -> str:
    lines = (
        f"log {log or LOG.verify_key.text}",
        f"witness w {KEY.verify_key.text} {url}",
        "quorum w",
    )
    (folder / "policy").write_text("".join(f"{line}\n" for line in lines))
    return str(folder / "policy")


@contextmanager
def listening(folder: Path, log: str = LOG.verify_key.name) -> Iterator[str]:
    Witness.create(folder, [KEY])
    witness = Witness(folder, lambda: START // 1000)
    witness.trust(key_of(log).verify_key)
    with WitnessServer(("127.0.0.1", 0), witness, lambda _line: None) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_without_a_policy_nobody_is_asked(tmp_path: Path):
    assert cosigner(Settings(folder=tmp_path), LOG.verify_key, Clock()) is None


def test_a_policy_that_cannot_be_meant_is_refused_by_name(tmp_path: Path):
    settings = Settings(folder=tmp_path)
    (tmp_path / "nonsense").write_text("quorum\n")
    for name in ("foreign", "mute"):
        (tmp_path / name).mkdir()
    for policy, message in (
        (str(tmp_path / "missing"), "No such file"),
        (str(tmp_path / "nonsense"), "line 1"),
        (
            policy_file(tmp_path / "foreign", log=key_of("other").verify_key.text),
            "does not list this log",
        ),
        (policy_file(tmp_path / "mute", url=""), "have a URL"),
    ):
        with pytest.raises(SettingsError, match="RONGSHU_WITNESS_POLICY") as caught:
            cosigner(replace(settings, witness_policy=policy), LOG.verify_key, Clock())
        assert message in str(caught.value)


def test_a_second_key_of_the_log_adds_its_line(tmp_path: Path):
    settings = Settings(folder=tmp_path)
    settings.second_log_key.parent.mkdir(parents=True)
    second = CosigningKey.from_seed("rongshu.local/log", bytes(32), COSIGNATURE_MLDSA)
    second.save(settings.second_log_key)
    found = cosigner(settings, LOG.verify_key, Clock())
    assert isinstance(found, Cosigner)
    settings.second_log_key.chmod(0o644)
    with pytest.raises((SettingsError, InvalidKeyError), match="chmod 600"):
        cosigner(settings, LOG.verify_key, Clock())


def started(tmp_path: Path, url: str, **changes: int) -> Settings:
    settings = Settings(folder=tmp_path / "service", **changes)
    settings.log_key.parent.mkdir(parents=True)
    LOG.save(settings.log_key)
    return replace(settings, witness_policy=policy_file(tmp_path, url))


def test_a_service_shows_what_its_witnesses_cosigned(tmp_path: Path):
    with listening(tmp_path / "witness") as url:
        settings = started(tmp_path, url)
        with running(settings, None, Clock()) as context:
            policy = Policy.parse(Path(settings.witness_policy).read_bytes())
            trusted = policy.open_checkpoint(context.log.checkpoint())
            assert trusted.checkpoint.size == context.log.size > 0
            assert trusted.witnessed_at == START // 1000


def test_a_first_start_without_witnesses_says_who_is_lacking(tmp_path: Path):
    settings = started(tmp_path, "http://127.0.0.1:1", log_wait_seconds=1)
    with (
        pytest.raises(LogError, match="0 of the 1 that the quorum 'w' needs"),
        running(settings, None, Clock()),
    ):
        pytest.fail("it started")


# --- the log under a quorum


class Quorum:
    """A cosigner that may be told to fail."""

    def __init__(self, cosign: Cosigner) -> None:
        self.cosign, self.silent, self.asked = cosign, False, 0

    def __call__(self, signed: bytes, tree: object) -> bytes:
        self.asked += 1
        if self.silent:
            raise CosigningError("0 of the 1")
        return self.cosign(signed, tree)  # type: ignore[arg-type]


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> World:
    return World(tmp_path / "world", providers=1)


def cosigned_log(world: World, url: str, folder: Path) -> tuple[Log, Quorum]:
    text = policy_file(folder, url, world.log.vkey.text)
    policy = Policy.parse(Path(text).read_bytes())
    quorum = Quorum(Cosigner(policy, lambda: world.clock() // 1000, pause=0.0))
    world.log.stop()
    log = Log(world.engine, world.log_key, world.folder / "checkpoints", world.clock, cosign=quorum)
    return log, quorum


def newcomer(world: World, name: str) -> None:
    party = Party(name, key_of(name))
    world.put(world.participant(party, "auditor").sign(party.key))


def lines(log: Log) -> int:
    return len(split_unverified(log.checkpoint())[1])


def test_without_its_quorum_a_log_keeps_showing_the_older_checkpoint(world: World, tmp_path: Path):
    with listening(tmp_path / "witness", world.log.vkey.name) as url:
        world.log, quorum = cosigned_log(world, url, tmp_path)
        before = world.log.checkpoint()
        assert lines(world.log) == 2
        quorum.silent = True
        newcomer(world, "one.example")
        world.log.refresh()
        assert world.log.checkpoint() == before
        assert world.log.cosigning_failure == "0 of the 1"
        # A restart in silence shows it again; nothing that was acknowledged is lost.
        restarted, quorum = cosigned_log(world, url, tmp_path)
        assert restarted.size == world.log.size + 1
        assert restarted.cosigning_failure is None
        restarted.stop()


def test_a_quiet_log_is_cosigned_anew(world: World, tmp_path: Path):
    with listening(tmp_path / "witness", world.log.vkey.name) as url:
        log, quorum = cosigned_log(world, url, tmp_path)
        size, asked = log.size, quorum.asked
        log.refresh()
        assert (log.size, quorum.asked) == (size, asked + 1)
        refreshed = threading.Event()
        refresh = log.refresh

        errors = [OSError(28, "No space left on device")]

        def heard() -> None:
            if errors:
                raise errors.pop()
            refresh()
            refreshed.set()

        log.refresh = heard  # type: ignore[method-assign]
        with kept_fresh(log, 0.001):
            assert refreshed.wait(10)
        log.stop()


def test_a_log_without_witnesses_signs_nothing_anew(world: World):
    before = world.log.checkpoint()
    world.log.refresh()
    assert world.log.checkpoint() is before


def test_the_logs_second_key_is_made_once_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = Settings(folder=tmp_path)
    settings.log_key.parent.mkdir(parents=True)
    LOG.save(settings.log_key)
    settings.operator_api_key.parent.mkdir(parents=True)
    settings.operator_api_key.touch()
    told = []
    for _ in range(2):
        assert operate.command(["key", "--data", str(tmp_path), "--second"]) == 0
        told.append(capsys.readouterr())
    key = CosignatureKey.from_text(told[0].out.strip())
    assert (key.name, key.algorithm) == (LOG.name, COSIGNATURE_MLDSA)
    assert told[1].out == told[0].out
    assert "made; checkpoints have its line" in told[0].err
    assert told[1].err == ""
