import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from ledger import cli
from ledger.errors import LedgerError

# Commands of an imaginary distribution, each a module that says so when it is imported.
MODULES = {
    "fine": '"""Plays along."""\nimport sys\nprint("imported fine")\n'
    "def command(argv):\n    print(argv)\n    return 7\n",
    "other": '"""Is never asked."""\nprint("imported other")\ndef command(argv): return 0\n',
    "extra": '"""Needs more."""\nimport not_installed_anywhere\ndef command(argv): return 0\n',
    "typed": '"""Fails with a typed error."""\nfrom ledger.errors import ProofError\n'
    'def command(argv):\n    raise ProofError("leaf 3:\\n wrong root")\n',
    "defect": '"""Has a defect."""\ndef command(argv):\n    raise RuntimeError("boom")\n',
    "stopped": '"""Is stopped."""\ndef command(argv):\n    raise KeyboardInterrupt\n',
    "ours": '"""Misses one of ours."""\nimport ledger.not_there\ndef command(argv): return 0\n',
    "long": '"""Writes much."""\ndef command(argv):\n'
    '    for _ in range(100000):\n        print("x" * 100)\n    return 0\n',
}

Rongshu = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rongshu(tmp_path: Path) -> Rongshu:
    """Runs the command line in a process with the imaginary commands installed."""
    info = tmp_path / "rongshu-9.8.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rongshu\nVersion: 9.8.7\n")
    lines = [f"{name} = cmd_{name}:command" for name in MODULES]
    lines = [f"{line} [node]" if line.startswith("extra") else line for line in lines]
    (info / "entry_points.txt").write_text("\n".join([f"[{cli.GROUP}]", *lines]))
    for name, text in MODULES.items():
        (tmp_path / f"cmd_{name}.py").write_text(text)
    root = Path(cli.__file__).parents[1]
    code = f"import sys; sys.path[:0] = {[str(tmp_path), str(root)]!r}\n"
    code += "from ledger.cli import main; sys.exit(main())"

    def run(*words: str, wrap: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *words]
        if wrap:
            command = ["bash", "-c", wrap, "bash", *command]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


def test_version(rongshu: Rongshu):
    answer = rongshu("--version")
    assert (answer.returncode, answer.stdout) == (0, "rongshu 9.8.7\n")


def test_help_lists_commands_with_their_summaries_and_imports_none(rongshu: Rongshu):
    answer = rongshu("--help")
    assert answer.returncode == 0
    assert "fine     Plays along." in answer.stdout
    assert "extra    Needs more." in answer.stdout
    assert "example: rongshu audit verify" in answer.stdout
    assert "imported" not in answer.stdout


def test_bare_call_shows_help_as_wrong_usage(rongshu: Rongshu):
    answer = rongshu()
    assert answer.returncode == 2
    assert "commands:" in answer.stdout


def test_only_the_command_asked_for_is_imported(rongshu: Rongshu):
    answer = rongshu("fine", "--help", "-x", "a b")
    assert answer.returncode == 7
    assert answer.stdout == "imported fine\n['--help', '-x', 'a b']\n"


def test_an_unknown_command_names_the_nearest(rongshu: Rongshu):
    answer = rongshu("fime")
    assert answer.returncode == 2
    assert answer.stderr == "rongshu: no such command: 'fime'; did you mean 'fine'?\n"


def test_a_missing_extra_says_how_to_install_it(rongshu: Rongshu):
    answer = rongshu("extra")
    assert answer.returncode == 1
    assert "pip install 'rongshu[node]'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_typed_error_is_one_line(rongshu: Rongshu):
    answer = rongshu("typed")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "rongshu: leaf 3: wrong root\n"


@pytest.mark.parametrize("name", ["defect", "ours"])
def test_a_defect_keeps_its_traceback(rongshu: Rongshu, name: str):
    answer = rongshu(name)
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


def test_ctrl_c_ends_quietly(rongshu: Rongshu):
    answer = rongshu("stopped")
    assert (answer.returncode, answer.stderr) == (130, "")


def test_a_closed_pipe_ends_quietly(rongshu: Rongshu):
    answer = rongshu("long", wrap='"$@" | head -1; exit "${PIPESTATUS[0]}"')
    assert (answer.returncode, answer.stderr) == (141, "")
    assert answer.stdout == "x" * 100 + "\n"


def test_only_trees_of_our_packages_are_typed():
    class LocalError(LedgerError):
        pass

    assert cli.is_typed(LocalError("x"))
    assert not cli.is_typed(ValueError("x"))


def test_a_bare_typed_error_speaks_by_its_docstring():
    class BareError(Exception):
        """The sky fell.

        More.
        """

    assert cli.describe(BareError()) == "The sky fell."
    assert cli.describe(BareError("a piece fell")) == "a piece fell"


def test_every_command_that_we_declare_is_found_with_a_summary():
    for name, entry in cli.find_commands().items():
        assert isinstance(entry, metadata.EntryPoint)
        assert cli.summary(entry), name
