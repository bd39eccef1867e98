"""The auditor's install: the wheel in an empty environment, with its base dependency alone."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import World

ROOT = Path(__file__).resolve().parents[2]
# What `cryptography` stands on, and nothing of the service or the node.
BASE = ("cryptography", "cffi", "pycparser", "typing-extensions")
# These run where the service or the client is installed.
NOT_FOR_THE_AUDITOR = {"client", "export", "log", "sealing", "shown", "store"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("build") is None,
        reason="the package `build` is not installed, so no wheel can be built",
    ),
]


def call(*words: object, cwd: Path | None = None, code: int = 0) -> str:
    answer = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT)
    (built,) = out.glob("rongshu-*.whl")
    return built


@pytest.fixture(scope="module")
def auditor(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that holds the wheel and the locked base dependency."""
    folder = tmp_path_factory.mktemp("auditor")
    call(sys.executable, "-m", "venv", folder / "venv")
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    blocks = [re.search(rf"^{name}==(?:.*\\\n)*.*\n", lock, re.MULTILINE) for name in BASE]
    (folder / "base.txt").write_text("".join(block[0] for block in blocks if block))
    programs = folder / "venv/bin"
    pip = [programs / "python", "-m", "pip", "install", "-q", "--no-deps"]
    call(*pip, "--require-hashes", "-r", folder / "base.txt")
    call(*pip, wheel)
    call(programs / "python", "-m", "pip", "check")
    return programs


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path):
    names = call(sys.executable, "-m", "zipfile", "-l", wheel).splitlines()[1:]
    tops = {name.split("/")[0].split()[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        *("ledger", "privacy", "federated", "marketplace")
    }
    assert any("py.typed" in name for name in names)


def test_it_says_its_version(auditor: Path, tmp_path: Path):
    assert re.fullmatch(r"rongshu \d+\.\d+\.\d+\n", call(auditor / "rongshu", "--version"))
    assert "audit" in call(auditor / "rongshu", "--help", cwd=tmp_path)


def test_every_module_that_an_auditor_needs_is_importable(auditor: Path, tmp_path: Path):
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "ledger").rglob("*.py")]
    names = sorted(
        ".".join(path.parts).removesuffix(".__init__")
        for path in paths
        if path.parts[1] not in NOT_FOR_THE_AUDITOR
    )
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    call(auditor / "python", "-c", code, *names, cwd=tmp_path)


def test_it_verifies_an_export(auditor: Path, tmp_path: Path):
    world = World.with_one_use(tmp_path / "world")
    world.export(tmp_path / "export")
    key = world.log.vkey.text
    verify = [auditor / "rongshu", "audit", "verify", tmp_path / "export"]
    call(*verify, "--key", key, cwd=tmp_path)
    call(*verify, cwd=tmp_path, code=3)
    checkpoint = tmp_path / "export" / "checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b"\n", b"\r", 1))
    call(*verify, "--key", key, cwd=tmp_path, code=1)
