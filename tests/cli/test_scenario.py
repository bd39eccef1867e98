"""The documents about scenarios, and the commands that they and the page name."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.audit import command as audit
from marketplace.scenario.cli import command
from marketplace.scenario.parts import FIELDS
from tests.scenarios import run

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "scenario.md").read_text()
README = (ROOT / "README.md").read_text()
SECTIONS = {
    "": "Top level",
    "provider": "`[[provider]]`",
    "terms": "`[terms]`",
    "data": "`[data]`",
    "prepare": "`[prepare]`",
    "job": "`[[job]]`",
    "expect": "`[[expect]]`",
    "refuse": "`[[refuse]]`",
    "compare": "`[[compare]]`",
}


def section(title: str) -> str:
    return DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_is_documented_and_no_other(kind: str):
    table = section(SECTIONS[kind]).partition("| field |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == FIELDS[kind]


def test_the_example_of_the_document_plays(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    blocks = re.findall(r"`(\w+\.csv)`[^`]*```csv\n(.*?)```", DOCUMENT, re.DOTALL)
    assert [name for name, _ in blocks] == ["alder.csv", "birch.csv"]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    (toml,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "scenario.toml").write_text(toml)
    code, out, _ = run(capsys, tmp_path / "scenario.toml", tmp_path / "out")
    assert code == 0, out


def test_the_example_for_own_data_plays_and_the_next_commands_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = ROOT / "examples" / "own" / "scenario.toml"
    code, out, _ = run(capsys, file, tmp_path / "a folder")
    assert code == 0, out
    # A checkout's page says `./run rongshu`, an installation's `rongshu`.
    shown = [line.replace("./run rongshu", "rongshu") for line in out.splitlines()]
    lines = [shlex.split(line) for line in shown if "  rongshu " in line]
    # A checkout's page ends with one more, the example for own data.
    assert [words[1] for words in lines][:5] == ["audit", "audit", "serve", "job", "job"]
    commands = lines[:2]
    assert [words[-5:-2] for words in commands] == [
        ["audit", "verify", str(tmp_path / "a folder" / "export")],
        ["audit", "list", str(tmp_path / "a folder" / "export")],
    ]
    for words in commands:
        assert audit(words[words.index("audit") + 1 :]) == 0


@pytest.mark.parametrize("argv", [[], ["play"], ["run"]])
def test_wrong_usage_ends_with_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        command(argv)
    assert ended.value.code == 2
    assert "usage: rongshu scenario" in capsys.readouterr().err


def test_help_loads_neither_numpy_nor_flower():
    program = (
        "import sys\n"
        "from marketplace.scenario.cli import command\n"
        "try:\n    command(['run', '--help'])\n"
        "finally:\n    sys.exit(len({'numpy', 'flwr', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "exit codes" in done.stdout


def test_links_of_the_documents_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    missing = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert missing == []


def test_commands_of_the_readme_are_those_of_the_run_script():
    script = (ROOT / "run").read_text()
    named = set(re.findall(r"\./run (\w+)", README))
    assert {"demo", "test", "rongshu", "bench"} == named
    assert all(re.search(rf"^  \./run {word}\b", script, re.MULTILINE) for word in named)


def identifiers(path: Path) -> Iterator[str]:
    """Yield what a module defines: its own name, functions, classes, arguments and variables."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_the_glossary_lists_the_words_that_the_code_avoids():
    listed = (ROOT / "docs" / "glossary.md").read_text().partition("\nNot used in code")[2]
    unused = set(re.findall(r"`(\w+)`", listed))
    assert len(unused) == 10
    # An API token is one; and a base class is that to Python's own readers.
    avoided = unused - {"token", "base"}
    found = [
        (path.relative_to(ROOT), name)
        for package in ("ledger", "privacy", "federated", "marketplace")
        for path in (ROOT / package).rglob("*.py")
        for name in {path.parent.name, *identifiers(path)}
        if avoided & set(re.sub(r"([A-Z])", r"_\1", name).lower().split("_"))
    ]
    assert found == []


def without_numbers(text: str) -> str:
    return re.sub(r"[0-9][0-9.,]*", "#", text)


@pytest.mark.slow
def test_the_demo_runs_as_the_readme_says(tmp_path: Path):
    done = subprocess.run(
        ["./run", "demo", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Everything held" in done.stdout
    # The page of the README is a real one, shortened: none of its lines is invented.
    page = README.partition("```text\n")[2].partition("```")[0]
    # Times differ by machine, and the number of entries with each kind of statement.
    real = without_numbers(done.stdout).split("\n")
    assert [line for line in without_numbers(page).split("\n") if line not in real] == []
