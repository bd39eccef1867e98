"""`./run` against a Python that only writes down what it is asked: no package is fetched here.

The real installation, from hashes, is what .ci/run starts with.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELL = shutil.which("dash") or "/bin/sh"

# Stands for python3.11 and, copied, for .venv/bin/python. Questions to Python itself go to the
# real one; `-m venv` and `-m pip` are written down, and leave the files that the real ones would.
FAKE_PYTHON = """#!/bin/sh
bin=${0%/*}
case $1 in
-c) exec "$REAL_PYTHON" "$@" ;;
esac
printf '%s\\n' "$*" >>"$CALLS"
case "$*" in
"-m venv --clear "*)
    rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
"-m pip config list")
    printf '%s\\n' "global.index-url='file:///c/simple'" \\
        "global.extra-index-url='file:///a/simple\\\\nfile:///b/simple'" \\
        "global.find-links='/nowhere /'" ":env:.cert='/etc/cert.pem'" ;;
"-m pip install"*uv.txt)
    cp "${bin%/bin}/uv.txt" "$CALLS.uv.txt"
    cp "$FAKE_UV" "$bin/uv" ;;
"-m pip install"*--editable*)
    [ -z "${BREAK_PROJECT:-}" ] || exit 1
    cp "$FAKE_RONGSHU" "$bin/rongshu" ;;
esac
"""
FAKE_UV = """#!/bin/sh
case $1 in --version) exit "${UV_BROKEN:-0}" ;; esac
printf 'uv %s | %s | %s | %s | %s\\n' "$*" "$UV_DEFAULT_INDEX" "$UV_INDEX" "$UV_FIND_LINKS" \\
    "$SSL_CERT_FILE" >>"$CALLS"
exit "${UV_FAILS:-0}"
"""
FAKE_RONGSHU = """#!/bin/sh
echo "args: $*"
echo "switches: $FLWR_TELEMETRY_ENABLED $FLWR_DISABLE_UPDATE_CHECK $FLWR_HOME"
echo "in: $(pwd)"
"""
LOCK = """# made by hand
ruff==1.0 \\
    --hash=sha256:aa
    # via -r requirements.in
uv==1.2.3 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via -r requirements.in
zipp==1.0 --hash=sha256:dd
"""


class Checkout:
    """A folder with `run`, a lock and a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        self.bin = folder / "bin"
        self.calls_file = folder / "calls"
        self.root.mkdir()
        self.bin.mkdir()
        for tool in ("cat", "cmp", "cp", "mkdir", "mv", "printf", "rm", "sed", "sh"):
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        shutil.copy(ROOT / "run", self.root)
        (self.root / "requirements.lock").write_text(LOCK)
        (self.root / "pyproject.toml").write_text("[project]\n")
        self.fakes = {}
        for name, text in {"FAKE_UV": FAKE_UV, "FAKE_RONGSHU": FAKE_RONGSHU}.items():
            self.fakes[name] = str(self.script(folder / name, text))

    def script(self, path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    def python(self, text: str = FAKE_PYTHON, name: str = "python3.11") -> None:
        self.script(self.bin / name, text)

    def environment(self, **extra: str) -> dict[str, str]:
        own = {"PATH": str(self.bin), "CALLS": str(self.calls_file), "REAL_PYTHON": sys.executable}
        return {**own, **self.fakes, **extra}

    def run(self, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SHELL, self.root / "run", *words],
            env=self.environment(**extra),
            cwd=self.bin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[str]:
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.write_text("")
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    place = Checkout(tmp_path)
    place.python()
    return place


def test_alone_it_prints_help(checkout: Checkout):
    answer = checkout.run()
    assert answer.returncode == 0
    for word in ("demo", "test", "coverage", "check", "bench", "shell", "rongshu"):
        assert f"./run {word}" in answer.stdout
    assert not checkout.calls()


def test_an_unknown_command_is_refused_before_anything_is_installed(checkout: Checkout):
    answer = checkout.run("tset")
    assert answer.returncode == 2
    assert "no such command: tset" in answer.stderr
    assert not checkout.calls()


def test_the_first_start_installs_and_the_second_does_not(checkout: Checkout):
    first = checkout.run("rongshu", "job", "a b")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines() == [
        "args: job a b",
        f"switches: 0 1 {checkout.root}/.venv/flwr",
        f"in: {checkout.bin}",
    ]
    assert len(first.stderr.splitlines()) == 1
    venv, *rest = checkout.calls()
    assert venv == f"-m venv --clear {checkout.root}/.venv"
    assert any("--require-hashes -r" in line and line.endswith("uv.txt") for line in rest)
    assert any(line.startswith("uv pip sync") and "--require-hashes" in line for line in rest)
    assert f"--editable {checkout.root}" in rest[-1]
    assert "--no-build-isolation" in rest[-1]

    second = checkout.run("rongshu")
    assert second.returncode == 0
    assert not second.stderr
    assert not checkout.calls()


def test_uv_is_installed_from_its_own_hashed_lines(checkout: Checkout):
    checkout.run("rongshu")
    lines = Path(f"{checkout.calls_file}.uv.txt").read_text()
    assert lines == "uv==1.2.3 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"


def test_pip_settings_reach_uv(checkout: Checkout):
    checkout.run("rongshu")
    (line,) = [line for line in checkout.calls() if line.startswith("uv ")]
    _, index, extra, links, cert = line.split(" | ")
    assert index == "file:///c/simple"
    assert extra == "file:///a/simple file:///b/simple"
    assert links == "/"  # the folder that is not there is left out
    assert cert == "/etc/cert.pem"


def test_what_the_user_told_uv_stands(checkout: Checkout):
    checkout.run("rongshu", UV_DEFAULT_INDEX="https://mine.example")
    (line,) = [line for line in checkout.calls() if line.startswith("uv ")]
    assert line.split(" | ")[1] == "https://mine.example"


def test_a_changed_lock_is_synced_in_place(checkout: Checkout):
    checkout.run("rongshu")
    checkout.calls()
    with (checkout.root / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert checkout.run("rongshu").returncode == 0
    calls = checkout.calls()
    assert not any("venv" in line.split()[:2] for line in calls)
    assert any(line.startswith("uv pip sync") for line in calls)


def test_a_changed_pyproject_reinstalls_the_project_alone(checkout: Checkout):
    checkout.run("rongshu")
    checkout.calls()
    (checkout.root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    checkout.run("rongshu")
    (line,) = checkout.calls()
    assert "--editable" in line


def test_an_interrupted_installation_is_done_again_from_the_start(checkout: Checkout):
    broken = checkout.run("rongshu", BREAK_PROJECT="1")
    assert broken.returncode == 1
    assert "could not install Rongshu" in broken.stderr
    checkout.calls()
    assert checkout.run("rongshu").returncode == 0
    assert checkout.calls()[0].startswith("-m venv --clear")


def test_a_moved_folder_is_installed_again(checkout: Checkout):
    checkout.run("rongshu")
    checkout.calls()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert checkout.run("rongshu").returncode == 0
    assert checkout.calls()[0] == f"-m venv --clear {checkout.root}/.venv"


@pytest.mark.parametrize("trouble", ["UV_BROKEN", "UV_FAILS"])
def test_pip_steps_in_for_uv(checkout: Checkout, trouble: str):
    answer = checkout.run("rongshu", **{trouble: "1"})
    assert answer.returncode == 0, answer.stderr
    assert "installing with pip" in answer.stderr
    wanted = f"--require-hashes -r {checkout.root}/requirements.lock"
    assert any(line.startswith("-m pip install") and wanted in line for line in checkout.calls())


def test_two_at_once_install_once(checkout: Checkout):
    both = [
        subprocess.Popen(
            [SHELL, checkout.root / "run", "rongshu"],
            env=checkout.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    assert sum(line.startswith("-m venv") for line in checkout.calls()) == 1


def test_without_python_it_says_what_to_install(checkout: Checkout):
    (checkout.bin / "python3.11").unlink()
    answer = checkout.run("rongshu")
    assert answer.returncode == 1
    assert "Python 3.11 or newer is needed; found none" in answer.stderr
    assert "apt install python3 python3-venv" in answer.stderr


def test_an_old_python_is_named(checkout: Checkout):
    (checkout.bin / "python3.11").unlink()
    old = "#!/bin/sh\ncase $1 in --version) echo Python 3.9.2; exit 0 ;; esac\nexit 1\n"
    checkout.python(old, "python3")
    answer = checkout.run("rongshu")
    assert answer.returncode == 1
    assert "found Python 3.9.2" in answer.stderr


def test_a_python_without_venv_names_the_package(checkout: Checkout):
    lame = FAKE_PYTHON.replace(
        "case $1 in\n-c)", 'case "$*" in *ensurepip*) exit 1 ;; esac\ncase $1 in\n-c)', 1
    )
    checkout.python(lame)
    answer = checkout.run("rongshu")
    assert answer.returncode == 1
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt install python{version}-venv" in answer.stderr


def test_the_demo_plays_the_scenario_from_any_folder(checkout: Checkout):
    answer = checkout.run("demo", "--json")
    scenario = checkout.root / "examples/hospitals/scenario.toml"
    assert f"args: scenario run {scenario} --json" in answer.stdout
    assert f"in: {checkout.bin}" in answer.stdout


def test_every_check_runs_and_one_failure_fails_all(checkout: Checkout):
    checkout.run("rongshu")
    tools = checkout.root / ".venv/bin"
    for tool in ("ruff", "mypy", "lint-imports"):
        code = 1 if tool == "mypy" else 0
        checkout.script(tools / tool, f'#!/bin/sh\necho "did {tool} $*"\nexit {code}\n')
    answer = checkout.run("check")
    assert answer.returncode == 1
    assert "failed: mypy" in answer.stderr
    for line in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        assert f"did {line}" in answer.stdout
    checkout.script(tools / "mypy", "#!/bin/sh\n")
    assert checkout.run("check").returncode == 0


@pytest.mark.parametrize("fails", ["", "run", "combine", "report"])
def test_coverage_asks_the_tests_of_the_ledger_alone_and_ends_in_its_verdict(
    checkout: Checkout, fails: str
):
    checkout.run("rongshu")
    tests = checkout.root / "tests"
    for name, line in (
        ("unit/test_note.py", "from ledger import note"),
        ("unit/test_guard.py", "from ledger import note\nfrom federated.node import guard"),
        ("unit/test_app.py", "import marketplace.app"),
        ("conformance/test_vectors.py", "import ledger  # not from privacy"),
    ):
        (tests / name).parent.mkdir(parents=True, exist_ok=True)
        (tests / name).write_text(f"{line}\n")
    (checkout.bin / "grep").symlink_to(shutil.which("grep") or "/bin/grep")
    python = checkout.root / ".venv/bin/python"
    failing = f'case "$*" in "-m coverage {fails or "none"}"*) exit 3 ;; esac\n'
    checkout.script(python, FAKE_PYTHON + failing)
    checkout.calls()
    assert checkout.run("coverage").returncode == (3 if fails else 0)
    calls = checkout.calls()
    (measured,) = [call for call in calls if call.startswith("-m coverage run")]
    assert measured.endswith("not slow tests/unit/test_note.py tests/conformance/test_vectors.py")
    steps = [call.split()[2] for call in calls]
    expected = ["erase", "run", "combine", "report"]
    assert steps == expected[: expected.index(fails) + 1 if fails else None]


def test_it_is_posix_shell():
    dash = shutil.which("dash")
    if dash is None:
        pytest.skip("no dash here to read the script strictly")
    subprocess.run([dash, "-n", ROOT / "run"], check=True)
    assert os.access(ROOT / "run", os.X_OK)
