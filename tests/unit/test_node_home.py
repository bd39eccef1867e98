"""A node's folder: what is kept in it, who may read it, and when a node may not be opened."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from federated.errors import JournalError, NodeError, VaultError
from federated.node.cli import command
from federated.node.home import SETTINGS, NodeHome, NodeSettings
from ledger.keys import CosigningKey, SigningKey
from ledger.statements import Measurement
from ledger.statements.asset import MEASUREMENT_TYPE
from ledger.statements.envelope import from_json, open_
from ledger.trust import Policy
from tests.drafts import Clock, key_of

ASSET = "asset:" + "a" * 64


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> NodeSettings:
    (tmp_path / "data.csv").write_text("chol,age\n1.5,40\n2.5,41\n")
    key_of("provider").save(tmp_path / "provider.key")
    return NodeSettings(
        name="Basel + hospital",
        file=str(tmp_path / "data.csv"),
        reading={"header": True},
        service="http://market",
        log_key=key_of("log").verify_key.text,
        provider="participant:" + "b" * 64,
        provider_key=str(tmp_path / "provider.key"),
    )


@pytest.fixture(name="home")
def _home(tmp_path: Path, settings: NodeSettings) -> NodeHome:
    return NodeHome.create(tmp_path / "node", settings)


def test_it_is_read_back_as_it_was_made(home: NodeHome):
    assert NodeHome.load(home.folder) == home
    assert NodeHome.load(home.folder).node_key().verify_key == home.node_key().verify_key
    assert "+" not in home.node_key().name


def test_a_second_node_in_the_same_folder_is_refused(home: NodeHome, settings: NodeSettings):
    before = {path.name: path.read_bytes() for path in home.folder.iterdir()}
    with pytest.raises(NodeError, match="holds a node already"):
        NodeHome.create(home.folder, settings)
    assert {path.name: path.read_bytes() for path in home.folder.iterdir()} == before


def test_secrets_are_for_their_owner_alone(home: NodeHome):
    guarding = home.guard(ASSET, "sha256:" + "0" * 64, "secret api key")
    for name in ("node.key", "api.key"):
        assert stat.S_IMODE((home.folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    assert guarding.api_key() == "secret api key"
    assert "secret api key" not in (home.folder / SETTINGS).read_text()
    assert "secret api key" not in repr(guarding)


def test_a_measurement_is_the_nodes_own_word(home: NodeHome):
    envelope, digest = home.measure(7)
    data = from_json(envelope)
    measured = Measurement.from_payload(open_(data, MEASUREMENT_TYPE, home.node_key().verify_key))
    assert (measured.rows, measured.issued, measured.content_digest) == (2, 7, digest)
    assert digest.startswith("sha256:")
    assert "1.5" not in json.dumps(envelope)


def test_only_the_listed_bytes_are_opened(home: NodeHome):
    _, digest = home.measure(7)
    guarding = home.guard(ASSET, digest, "key")
    assert guarding.table()[1] == digest
    Path(home.settings.file).write_text("chol,age\n1.5,40\n2.5,42\n")
    with pytest.raises(VaultError) as refused:
        guarding.table()
    assert refused.value.reason == "data_changed"


def test_a_node_is_opened_once_its_asset_is_listed(home: NodeHome):
    with pytest.raises(NodeError, match="not listed yet"):
        home.open(httpx.Client(), Clock())
    guarding = home.guard(ASSET, "sha256:" + "0" * 64, "the key")
    http = httpx.Client()
    node = guarding.open(http, Clock())
    assert node.asset == ASSET
    assert http.headers["Authorization"] == "Bearer the key"
    node._journal.close()


@pytest.mark.parametrize("what", ["log key", "provider key", "node key", "wide key"])
def test_without_its_keys_a_node_is_not_opened(home: NodeHome, what: str):
    guarding = home.guard(ASSET, "sha256:" + "0" * 64, "the key")
    if what == "log key":
        guarding = replace(guarding, settings=replace(guarding.settings, log_key="log+00+x"))
    elif what == "provider key":
        Path(guarding.settings.provider_key).unlink()
    elif what == "node key":
        (guarding.folder / "node.key").write_text("nonsense")
    else:
        (guarding.folder / "node.key").chmod(0o644)
    with pytest.raises(NodeError):
        guarding.open(httpx.Client(), Clock())


def test_a_journal_that_was_changed_keeps_its_node_shut(home: NodeHome):
    import sqlite3

    guarding = home.guard(ASSET, "sha256:" + "0" * 64, "the key")
    node = guarding.open(httpx.Client(), Clock())
    with node._journal.write() as book:
        book.decide("job:1", ASSET, "revoked", b"receipt")
    node._journal.close()
    connection = sqlite3.connect(guarding.folder / "journal.db")
    connection.execute("UPDATE line SET time = 1")
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match="line 1"):
        guarding.open(httpx.Client(), Clock())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"name": "x"}',
        "not json",
        '{"surprise": 1}',
    ],
)
def test_settings_that_are_none_are_refused_by_file(home: NodeHome, text: str):
    (home.folder / SETTINGS).write_text(text)
    with pytest.raises(NodeError, match=SETTINGS):
        NodeHome.load(home.folder)


def test_a_folder_without_a_node_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(NodeError, match="rongshu node init"):
        NodeHome.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"approval": "always"}, "approval"),
        ({"minimum_rows": 0}, "minimum_rows"),
        ({"row_selections": True}, "row_selections"),
        ({"most_bytes": "1"}, "most_bytes"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_field(
    settings: NodeSettings, changes: dict[str, object], says: str
):
    with pytest.raises(NodeError, match=says):
        replace(settings, **changes)  # type: ignore[arg-type]


def test_a_node_has_a_key_of_its_own(home: NodeHome, tmp_path: Path):
    provider = SigningKey.load(tmp_path / "provider.key")
    assert home.node_key().verify_key.public != provider.verify_key.public


# --- whose word on the log is needed


def policy_file(folder: Path, *, quorum: str = "w", key: str = "log") -> str:
    witness = CosigningKey.from_seed("witness.example", bytes(32)).verify_key.text
    lines = (f"log {key_of(key).verify_key.text}", f"witness w {witness}", f"quorum {quorum}")
    (folder / "policy").write_text("".join(f"{line}\n" for line in lines))
    return str(folder / "policy")


def test_without_a_policy_the_logs_key_is_enough(home: NodeHome):
    assert home.trust() == Policy.of(key_of("log").verify_key)


def test_a_policy_is_read_when_the_node_opens(settings: NodeSettings, tmp_path: Path):
    changed = replace(settings, policy=policy_file(tmp_path), max_age_seconds=600)
    home = NodeHome.create(tmp_path / "node", changed).guard(ASSET, "sha256:" + "0" * 64, "key")
    assert home.trust().quorum == "w"
    with httpx.Client(base_url="http://market") as http:
        node = home.open(http, Clock())
    assert (node._log._policy, node._log._max_age) == (home.trust(), 600)
    node._journal.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "another"}, "does not list the log's key"),
        ({"quorum": "none"}, "only witnesses can tell"),
        ({"quorum": "unknown"}, "unknown"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(
    settings: NodeSettings, tmp_path: Path, options: dict[str, str], message: str
):
    changed = replace(settings, policy=policy_file(tmp_path, **options), max_age_seconds=600)
    with pytest.raises(NodeError, match=message):
        NodeHome(tmp_path / "node", changed).trust()


def test_a_limit_needs_a_policy_and_a_policy_its_file(settings: NodeSettings, tmp_path: Path):
    for changes in ({"max_age_seconds": 600}, {"policy": str(tmp_path / "missing")}):
        with pytest.raises(NodeError):
            NodeHome(tmp_path / "node", replace(settings, **changes)).trust()
    for seconds in (-1, True, 1.5):
        with pytest.raises(NodeError, match="max_age_seconds"):
            replace(settings, max_age_seconds=seconds)


def test_a_new_node_is_told_whose_word_it_needs(
    settings: NodeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    party = tmp_path / "party"
    party.mkdir()
    known = {"service": "http://m", "log_key": settings.log_key, "participant": settings.provider}
    (party / "party.json").write_text(json.dumps(known))
    words = ["--party", str(party), "--file", settings.file]
    limit = ["--policy", policy_file(tmp_path), "--max-age", "600"]
    assert command(["init", str(tmp_path / "strict"), *words, *limit]) == 0
    made = NodeHome.load(tmp_path / "strict").settings
    assert (made.policy, made.max_age_seconds) == (str(tmp_path / "policy"), 600)
    with pytest.raises(NodeError, match="only witnesses can tell"):
        command(["init", str(tmp_path / "never"), *words, "--max-age", "600"])
    assert not (tmp_path / "never").exists()
    assert command(["show", str(tmp_path / "strict")]) == 0
    assert str(tmp_path / "policy") in capsys.readouterr().out
