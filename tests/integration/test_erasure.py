"""The operator exports sealed, hands out views and erases by command, on the service's own data."""

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import LogError
from ledger.keys import SigningKey
from ledger.sealing import ViewKeys
from ledger.verify import SOUND, Plan, Verdict, verify
from ledger.views import Views
from marketplace import erasure
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.ledger import command
from marketplace.cli.serve import ServeError, alone
from tests.market import Market

CAUSE = "retention period over"
WORDS = ("a very private study",)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Market:
    """A stopped market: two released jobs, the agreements revoked since, no epochs."""
    with Market(tmp_path_factory.mktemp("lived") / "data", epoch_entries=0) as market:
        market.populate()
        market.released_job(name=WORDS[0])
        market.released_job()
        for party in market.providers:
            revocation = market.revocation(party, party.agreement)
            market.must(market.post("/revocations", party, revocation))
    return market


@pytest.fixture
def stopped(lived: Market, tmp_path: Path) -> Market:
    return lived.copy_to(tmp_path / "data", epoch_entries=0)


class Operator:
    """Runs commands over a stopped market."""

    def __init__(self, market: Market, capsys: pytest.CaptureFixture[str]) -> None:
        self.market = market
        self.folder = market.settings.folder
        self.key = SigningKey.load(market.settings.log_key).verify_key
        self._capsys = capsys

    def run(self, *argv: object) -> str:
        self._capsys.readouterr()
        assert command([*map(str, argv), "--data", str(self.folder)]) == 0
        return self._capsys.readouterr().out

    def json(self, *argv: object) -> Any:
        return json.loads(self.run(*argv, "--json"))

    def verify(self, folder: Path, views: Path | None = None) -> Verdict:
        held = None if views is None else Views.load(views)
        return verify(folder, self.key, Plan(views=held))

    def ids(self) -> dict[str, list[str]]:
        """Ids of what is logged, by kind."""
        found: dict[str, list[str]] = {}
        with self.market as market:
            for logged in market.context.log.history.by_index.values():
                found.setdefault(logged.statement.kind, []).append(logged.id)
        return found

    def on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.folder.glob("rongshu.db*")))


@pytest.fixture
def operator(stopped: Market, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(stopped, capsys)


def test_a_sealed_export_is_opened_with_views_and_not_without(operator: Operator, tmp_path: Path):
    folder, views = tmp_path / "export", tmp_path / "views"
    made = operator.json("export", folder, "--public", "--sealed")
    assert made["sealed"] + made["opened"] == made["size"]
    assert operator.verify(folder).enclosed == made["sealed"]
    operator.run("views", "--everything", "--out", views)
    verdict = operator.verify(folder, views)
    assert (verdict.status, verdict.sealed, verdict.unchecked) == (SOUND, 0, 0)


def test_views_of_one_agreement_open_what_rests_on_it(operator: Operator, tmp_path: Path):
    folder, views = tmp_path / "export", tmp_path / "views"
    operator.run("export", folder, "--public", "--sealed")
    (agreement, *_) = operator.ids()["agreement"]
    told = operator.json("views", "--agreement", agreement, "--epochs", "0", "--out", views)
    assert [item["epoch"] for item in told["views"]] == [0]
    opened = operator.verify(folder, views).checked["unsealed"]
    assert 0 < opened < operator.verify(folder).enclosed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--agreement", "agreement:" + 64 * "0"], "is not in the log"),
        (["--everything", "--epochs", "7"], "nothing rests"),
    ],
)
def test_views_of_nothing_are_refused(
    operator: Operator, tmp_path: Path, argv: list[str], message: str
):
    with pytest.raises(ArgumentError, match=message):
        operator.run("views", *argv, "--out", tmp_path / "views")
    assert not (tmp_path / "views").exists()


@pytest.mark.parametrize("text", ["x", "1-", "-1", "3,", "0-999999999"])
def test_epochs_that_are_none_are_refused(operator: Operator, tmp_path: Path, text: str):
    with pytest.raises(SystemExit):
        operator.run("views", "--everything", f"--epochs={text}", "--out", tmp_path / "views")


def test_tag_keys_go_only_to_whom_everything_is_open(operator: Operator, tmp_path: Path):
    with pytest.raises(ArgumentError, match="everything must be open"):
        operator.run("export", tmp_path / "one", "--public", "--tag-keys")
    operator.run("export", tmp_path / "two", "--tag-keys")
    assert (tmp_path / "two" / "tag-keys").is_file()
    assert operator.verify(tmp_path / "two").status == SOUND


def test_what_would_be_erased_is_shown_and_nothing_is_changed(operator: Operator):
    before, job = operator.on_disk(), operator.ids()["job"][0]
    told = operator.json("shred", "--job", job, "--cause", CAUSE)
    assert told["done"] is False
    assert told["kinds"] == {"job": 1, "grant": 3, "receipt": 3, "release": 1, "settlement": 1}
    assert told["kept"] == told["shred_entries"] == []
    assert WORDS[0].encode() in before
    assert WORDS[0].encode() in operator.on_disk()
    assert "shred" not in operator.ids()


def test_a_job_is_erased_from_every_table_and_every_byte(operator: Operator, tmp_path: Path):
    ids = operator.ids()
    told = operator.json("shred", "--job", ids["job"][0], "--cause", CAUSE, "--yes")
    assert told["done"] is True
    assert told["erased"] == len(told["entries"]) == 9
    assert len(told["shred_entries"]) == 5
    after = operator.on_disk()
    assert not any(word.encode() in after for word in WORDS)
    verdict = verify_export(operator, tmp_path)
    assert (verdict.status, verdict.erased) == (SOUND, 9)
    assert sum(verdict.erased_kinds.values()) == 9


def verify_export(operator: Operator, path: Path) -> Verdict:
    operator.run("export", path / "export")
    return operator.verify(path / "export")


def test_the_service_goes_on_and_what_was_erased_reads_as_erased(operator: Operator):
    ids = operator.ids()
    gone, kept = ids["job"]
    with operator.market as market:
        before = market.get("/accounts", market.auditor).json()
    operator.run("shred", "--job", gone, "--cause", CAUSE, "--yes")
    with operator.market as market:
        view = market.get(f"/jobs/{gone}", market.researcher).json()
        assert (view["name"], view["purpose"], view["task"]) == (erasure.ERASED,) * 3
        assert market.get(f"/jobs/{gone}/result", market.researcher).status_code == 409
        assert market.get(f"/log/statements/{gone}", market.auditor).status_code == 404
        assert market.get(f"/jobs/{kept}", market.researcher).json()["state"] == "released"
        assert market.get("/jobs", market.researcher).status_code == 200
        assert market.get("/settlements", market.auditor).status_code == 200
        # What was paid is in the accounts still.
        assert market.get("/accounts", market.auditor).json() == before
        assert market.context.log.findings == []


def test_an_agreement_is_erased_with_all_that_rests_on_it(operator: Operator, tmp_path: Path):
    ids = operator.ids()
    told = operator.json("shred", "--agreement", ids["agreement"][0], "--cause", CAUSE, "--yes")
    assert told["kinds"]["agreement"] == 1
    assert told["kinds"]["job"] == 2
    assert verify_export(operator, tmp_path).status == SOUND
    with operator.market as market:
        assert market.get("/agreements", market.researcher).status_code == 200
        found = market.get("/negotiations", market.researcher)
        assert found.status_code == 200
        assert {} in [item["terms"] for item in found.json()]


def test_a_crash_between_entry_and_erasure_is_made_good_at_the_next_start(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
):
    job = operator.ids()["job"][0]

    def crash(*_args: object) -> None:
        raise LogError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("marketplace.erasure.finish_erasure", crash)
        with pytest.raises(LogError, match="power cut"):
            operator.run("shred", "--job", job, "--cause", CAUSE, "--yes")
    assert WORDS[0].encode() in operator.on_disk()
    with operator.market as market:
        assert job not in market.context.log.history.by_id
        assert market.context.log.findings == []
    assert WORDS[0].encode() not in operator.on_disk()


def test_what_is_in_force_stays(lived: Market, tmp_path: Path, capsys: Any):
    del lived
    with Market(tmp_path / "data", epoch_entries=0) as market:
        market.populate()
        job = market.released_job()
    operator = Operator(market, capsys)
    told = operator.json("shred", "--job", job, "--cause", CAUSE, "--yes")
    assert told["entries"] == told["shred_entries"] == []
    assert {item["reason"].rpartition(" is ")[2] for item in told["kept"]} == {"still in force"}


def test_a_service_that_runs_is_not_erased_under(operator: Operator):
    job = operator.ids()["job"][0]
    with alone(operator.folder), pytest.raises(ServeError, match="is being served"):
        operator.run("shred", "--job", job, "--cause", CAUSE, "--yes")


@pytest.mark.parametrize("named", ["--job", "--agreement"])
def test_ids_of_something_else_are_refused(operator: Operator, named: str):
    ids = operator.ids()
    wrong = ids["agreement" if named == "--job" else "job"][0]
    with pytest.raises(ArgumentError, match="this is the id of"):
        operator.run("shred", named, wrong, "--cause", CAUSE)


def test_view_keys_rest_in_the_service_s_database(operator: Operator, tmp_path: Path):
    operator.run("views", "--everything", "--out", tmp_path / "views")
    held = Views.load(tmp_path / "views")
    with operator.market as market:
        assert ViewKeys(market.context.engine).views(market.context.log) == held
