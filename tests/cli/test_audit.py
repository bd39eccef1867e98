"""`rongshu audit`: exit codes, what people read, and the one JSON object that programs read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.audit import command
from ledger.cosignature import attach, cosign
from ledger.export import Extras, export
from ledger.keys import CosigningKey, SigningKey
from ledger.trust import Group, Policy, Witness
from tests.drafts import key_of
from tests.forgery import insecure_export, read_files
from tests.world import LOG_NAME, World

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World.with_one_use(tmp_path_factory.mktemp("world"), providers=4)
    refusal = {"state": "refused", "reason": "purpose_not_allowed"}
    marketing = world.put(world.job(purpose="marketing"))
    world.put(world.receipt(world.providers[1], marketing, None, **refusal))
    return world


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.export(tmp_path_factory.mktemp("export"))


@pytest.fixture
def key(world: World) -> str:
    return world.log.vkey.text


def tampered(world: World, path: Path) -> Path:
    world.export(path)
    data = bytearray((path / "openings/000").read_bytes())
    data[1000] ^= 1
    (path / "openings/000").write_bytes(data)
    return path


def test_sound(folder: Path, key: str, capsys: pytest.CaptureFixture[str]):
    assert command(["verify", str(folder), "--key", key]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SOUND: ")
    for told in (LOG_NAME, "31 entries", "1 release", "40.00 settled", "hospital4.example"):
        assert told in out
    assert out.count("SHA256:") == 7
    assert "No key was given" not in out


def test_a_key_from_a_file(
    folder: Path, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "log.vkey").write_text(key + "\n")
    assert command(["verify", str(folder), "--key", f"@{tmp_path / 'log.vkey'}"]) == 0
    assert capsys.readouterr().out.startswith("SOUND")


def test_tampered(world: World, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert command(["verify", str(tampered(world, tmp_path / "x")), "--key", key]) == 1
    out = capsys.readouterr().out
    assert out.startswith("TAMPERED: ")
    assert "  openings/000: damaged: differs from the signed manifest\n" in out


def test_incomplete(world: World, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (world.export(tmp_path / "x") / "openings/000").unlink()
    assert command(["verify", str(tmp_path / "x"), "--key", key]) == 2
    assert capsys.readouterr().out.startswith("INCOMPLETE: ")


def test_another_key(folder: Path, capsys: pytest.CaptureFixture[str]):
    other = SigningKey.from_seed(LOG_NAME, bytes(32)).verify_key.text
    assert command(["verify", str(folder), "--key", other]) == 3
    assert capsys.readouterr().out.startswith("TRUST NOT MET: ")


def test_without_a_key_it_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert command(["verify", str(folder)]) == 3
    out = capsys.readouterr().out
    assert out.startswith("TRUST NOT MET: ")
    assert "No key was given" in out
    assert "Ask someone other than the sender" in out
    assert out.count("SHA256:") == 7


def test_the_folders_own_key_is_no_key_from_outside(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert command(["verify", str(folder), "--key", f"@{folder}/log.vkey"]) == 64
    assert "take the key from elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["verify", "list"])
def test_json_is_one_object(folder: Path, key: str, what: str, capsys: pytest.CaptureFixture[str]):
    assert command([what, str(folder), "--key", key, "--json"]) == 0
    captured = capsys.readouterr()
    value = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert captured.err == ""
    assert (value["status"], value["exit_code"], value["size"]) == ("sound", 0, 31)
    assert value["findings"] == value["missing"] == []
    assert ("uses" in value) == (what == "list")


def test_json_of_a_tampered_folder(
    world: World, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert command(["verify", str(tampered(world, tmp_path / "x")), "--key", key, "--json"]) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["findings"][0] == {
        "code": "damaged",
        "where": "openings/000",
        "message": "differs from the signed manifest",
        "entries": [],
    }


def test_list(folder: Path, key: str, capsys: pytest.CaptureFixture[str]):
    assert command(["list", str(folder), "--key", key]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("SOUND: ")
    rows = [line.split() for line in lines if line.startswith("  2026-")]
    assert len(rows) == 5
    assert rows[0][:3] == ["2026-01-01", "00:00:24Z", "researcher.example"]
    assert rows[0][-4:] == ["statistics", "research", "completed", "10.00"]
    assert rows[-1][-3:] == ["marketing", "refused:", "purpose_not_allowed"]


def test_a_revoked_job_is_listed_as_one(
    world: World, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    twin = world.copy(tmp_path / "world")
    job, _, receipts = twin.receipted_job()
    twin.put(twin.revoke(twin.operator, job))
    twin.export(tmp_path / "x")
    assert command(["list", str(tmp_path / "x"), "--key", key]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "completed, revoked" in line]
    assert len(said) == len(receipts)
    command(["list", str(tmp_path / "x"), "--key", key, "--json"])
    uses = json.loads(capsys.readouterr().out)["uses"]
    assert [use["revoked"] for use in uses] == [False] * 5 + [True] * len(receipts)


def test_list_as_json(folder: Path, key: str, world: World, capsys: pytest.CaptureFixture[str]):
    command(["list", str(folder), "--key", key, "--json"])
    uses = json.loads(capsys.readouterr().out)["uses"]
    assert [use["price_cents"] for use in uses] == [1000, 1000, 1000, 1000, None]
    assert uses[0]["provider"] == "hospital1.example"
    assert uses[0]["asset_id"] == world.providers[0].asset
    assert uses[4]["reason"] == "purpose_not_allowed"


def test_list_of_sealed_entries(
    world: World, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    world.export(tmp_path / "x", opened=range(3))
    assert command(["list", str(tmp_path / "x"), "--key", key]) == 0
    assert "no use and no refusal is open to you" in capsys.readouterr().out


def test_a_refusal_of_a_job_that_was_never_logged(
    world: World, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    twin = world.copy(tmp_path / "world")
    ghost = "job:" + "0" * 64
    refusal = {"state": "refused", "reason": "not_proven"}
    twin.put(twin.receipt(twin.providers[0], ghost, None, **refusal))
    twin.export(tmp_path / "x")
    assert command(["list", str(tmp_path / "x"), "--key", key]) == 0
    assert "refused: not_proven" in capsys.readouterr().out


def test_what_a_forger_writes_cannot_move_the_cursor(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (world.export(tmp_path / "x") / "\x1b[2Jname\n").write_bytes(b"")
    assert command(["verify", str(tmp_path / "x")]) == 3
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[2Jname\n: unlisted_file" in out


def test_a_log_that_names_an_impossible_year(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from dataclasses import replace

    from tests.forgery import chain

    entries = [replace(entry, time=2**53 - 1) for entry in world.entries()]
    key = key_of(LOG_NAME)
    insecure_export(tmp_path / "x", key, chain(entries), world.openings())
    command(["list", str(tmp_path / "x"), "--key", key.verify_key.text])
    assert f"{2**53 - 1} ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required"),
        (["believe"], "invalid choice"),
        (["verify"], "FOLDER"),
        (["verify", "FOLDER", "--kee"], "unrecognized"),
        (["verify", "nowhere-at-all"], "is no folder"),
        (["verify", "FOLDER", "--key", "nonsense"], "name+8 hex digits+base64"),
        (["verify", "FOLDER", "--key", "@nowhere-at-all"], "nowhere-at-all: No such file"),
        (["verify", "FOLDER", "--key", "@FOLDER/.."], "directory"),
    ],
)
def test_wrong_usage_is_64_and_a_sentence(
    folder: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    replaced = [item.replace("FOLDER", str(folder)) for item in argv]
    assert command(replaced) == 64
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("argv", [["--help"], ["verify", "--help"], ["list", "--help"]])
def test_help_names_every_exit_code(argv: list[str], capsys: pytest.CaptureFixture[str]):
    assert command(argv) == 0
    out = capsys.readouterr().out
    for word in ("0   sound", "1   tampered", "2   incomplete", "3   trust not met", "64  wrong"):
        assert word in out
    assert argv == ["--help"] or "examples:\n  rongshu audit" in out


def test_only_the_verifier_is_imported(folder: Path, key: str):
    program = (
        "import json, sys; from ledger.audit import command; "
        f"code = command(['list', {str(folder)!r}, '--key', {key!r}]); "
        "print(json.dumps([code, sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    code, modules = json.loads(ran.stdout.splitlines()[-1])
    assert code == 0
    stranger = set(modules) - set(sys.stdlib_module_names) - {"ledger", "cryptography"}
    loaded = {name for name in stranger if not name.startswith(("_", "__"))}
    assert loaded <= {"cffi", "sitecustomize", "distutils"}
    assert not {"sqlalchemy", "sqlite3", "httpx", "numpy", "asyncio"} & set(modules)


def test_nothing_in_the_folder_is_touched(world: World, key: str, tmp_path: Path):
    path = world.export(tmp_path / "x")
    before = read_files(path)
    for file in path.rglob("*"):
        file.chmod(0o500 if file.is_dir() else 0o400)
    path.chmod(0o500)
    assert command(["verify", str(path), "--key", key]) == 0
    assert read_files(path) == before
    for file in (path, *path.rglob("*")):
        file.chmod(0o700)


# How new it is, and how it is checked.


def test_nothing_shows_that_an_export_is_the_newest(
    folder: Path, key: str, capsys: pytest.CaptureFixture[str]
):
    assert command(["verify", str(folder), "--key", key]) == 0
    assert "nothing here shows that this is the newest state" in capsys.readouterr().out


def test_an_older_state_than_one_kept_is_found(
    world: World, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    older = world.copy(tmp_path / "world")
    old = older.export(tmp_path / "old")
    older.put(older.job())
    new = older.export(tmp_path / "new")
    verify = ["verify", "--key", key]
    # By the file, by the folder; the twin without what was kept sees nothing.
    for kept in (new, new / "checkpoint"):
        assert command([*verify, str(old), "--newer-than", str(kept)]) == 1
        assert "checkpoint: rolled_back: " in capsys.readouterr().out
    assert command([*verify, str(old)]) == 0
    capsys.readouterr()
    assert command([*verify, str(new), "--newer-than", str(old)]) == 0
    assert "not older than the 31 entries that you kept" in capsys.readouterr().out


@pytest.mark.parametrize("kept", ["nowhere", "own", "own/checkpoint"])
def test_what_was_kept_is_read_from_elsewhere(
    folder: Path, key: str, kept: str, capsys: pytest.CaptureFixture[str]
):
    path = str(folder.parent / kept).replace(str(folder.parent / "own"), str(folder))
    assert command(["verify", str(folder), "--key", key, "--newer-than", path]) == 64
    assert "--newer-than: " in capsys.readouterr().err


def test_the_structure_alone_is_never_called_sound(
    world: World, folder: Path, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    verify = ["verify", "--structure-only"]
    assert command([*verify, str(folder), "--key", key]) == 0
    out = capsys.readouterr().out
    assert out.startswith("STRUCTURE HOLDS: ")
    assert "sound" not in out.lower()
    assert command([*verify, str(folder)]) == 3
    capsys.readouterr()
    # What it does not look at it does not find.
    assert command([*verify, str(tampered(world, tmp_path / "x")), "--key", key]) == 0


@pytest.mark.parametrize("count", ["0", "65", "-1", "two"])
def test_a_number_of_processes_that_cannot_be(
    folder: Path, key: str, count: str, capsys: pytest.CaptureFixture[str]
):
    assert command(["verify", str(folder), "--key", key, "--processes", count]) == 64
    assert "--processes" in capsys.readouterr().err


def test_who_waits_at_a_terminal_is_told(
    folder: Path, key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("ledger.audit.verify.PROGRESS_ENTRIES", 1)
    assert command(["verify", str(folder), "--key", key]) == 0
    assert capsys.readouterr().err == "\rchecked 31 of 31 entries\r\x1b[K"


def test_memory_is_told(folder: Path, key: str, capsys: pytest.CaptureFixture[str]):
    assert command(["verify", str(folder), "--key", key, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peak_memory_bytes"] > 10_000_000


def test_witnesses_and_what_is_enclosed_are_told(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    witness = CosigningKey.from_seed("witness.example", b"w" * 32)
    policy = Policy(
        (world.log.vkey,), (Witness("w", witness.verify_key),), (Group("g", 1, ("w",)),), "g"
    )
    (tmp_path / "policy").write_text(policy.text())

    class Seen:
        vkey, tile, openings = world.log.vkey, world.log.tile, world.log.openings

        def checkpoint(self) -> bytes:
            signed = world.log.checkpoint()
            return attach(signed, [cosign(signed, witness, 60)])

    extras = Extras(sealed={30: b"x"}, erased=[29])
    export(Seen(), world.log_key, tmp_path / "x", opened=range(9), scope="x", now=0, extras=extras)
    command(["verify", str(tmp_path / "x"), "--policy", str(tmp_path / "policy")])
    out = capsys.readouterr().out
    assert "1 of them are enclosed encrypted, 1 erased" in out
    assert "a quorum of witnesses saw it at 1970-01-01 00:01:00Z" in out
    assert "w saw it at 1970-01-01 00:01:00Z" in out
