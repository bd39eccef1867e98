"""The pages of docs/how-to are run as they stand, one role after the other, on a real service."""

import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_help import parses
from tests.served import COMMANDS, PROGRAM, ROOT, environment, serving

PAGES = ROOT / "docs" / "how-to"
ADDRESS = "http://127.0.0.1:8448"
SERVE = "rongshu serve --embedded market\n"
# Each command is a process of its own, as a reader's is; starting Python is most of the time.
SHIM = """\
#!/bin/sh
name=$1
case $name in
{cases}
esac
shift
exec {python} -c '{program}' "$name" "$target" "$@"
"""


def blocks(page: str, *, heading: str = "") -> list[str]:
    """The sh blocks of a page, or of one section of it, in order."""
    text = (PAGES / page).read_text()
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def make_shim(path: Path) -> Path:
    """Write a `rongshu` of this checkout to a file in a new folder."""
    cases = "\n".join(f"{name}) target='{target}' ;;" for name, target in COMMANDS.items())
    path.parent.mkdir()
    path.write_text(SHIM.format(cases=cases, python=sys.executable, program=PROGRAM))
    path.chmod(0o755)
    return path


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], str]:
    """Runs a block in the reader's folder, with `rongshu` on the path."""
    shim = make_shim(tmp_path / "bin" / "rongshu")
    values = environment()
    values["PATH"] = f"{shim.parent}:{values['PATH']}"

    def run(block: str) -> str:
        ran = subprocess.run(
            ["/bin/sh", "-eu", "-c", block],
            cwd=tmp_path,
            env=values,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    return run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_page_can_be_followed(shell: Callable[[str], str], tmp_path: Path):
    assert blocks("operator.md")[0] == SERVE
    with serving("--embedded", tmp_path / "market") as served:

        def follow(page: str, heading: str = "", **changed: str) -> str:
            told = ""
            for block in blocks(page, heading=heading):
                if block == SERVE:
                    continue
                for old, new in {ADDRESS: served.address, **changed}.items():
                    block = block.replace(old, new)  # noqa: PLW2901
                told += shell(block)
            return told

        prepared = ("Publish the log's key", "Prepare for the loss of the log's key")
        for heading in (*prepared, "Let parties in"):
            follow("operator.md", heading)
        before = ("Enrol", "List your data", "Offer them", "Decide jobs by hand")
        for heading in before:
            follow("provider.md", heading)
            follow("provider.md", heading, basel="zurich", Basel="Zurich")
        follow("provider.md", "Sell scores of a model")
        told = follow("researcher.md")
        assert told.count("checked here: ") == 3
        # Both providers have the same rows in this text: 12 rows, ages adding up to 636.
        assert '"count": 12' in told
        assert '"age": 636' in told
        assert told.count(" released ") == 3
        ann, ben = json.loads(re.search(r'"scores": (\[[^]]*\])', told)[1])
        assert ann == pytest.approx(1 / (1 + math.exp(6.5 - 54 * 0.061 - 231 * 0.0094)))
        assert ben == pytest.approx(1 / (1 + math.exp(6.5 - 67 * 0.061 - 198 * 0.0094)))
        assert "lines, signed by SHA256:" in follow(
            "provider.md", "Show your journal to an auditor"
        )
        told = follow("provider.md", "Afterwards")
        assert told.count("completed") == 2
        assert "signs with a new key" in follow("provider.md", "Change your keys")
        follow("auditor.md", "Ask for an export")
        follow("operator.md", "Give an auditor the ledger")
        assert "SOUND" in follow("auditor.md", "Verify") + follow("auditor.md", "See who used what")
        assert "entries that you kept" in follow("auditor.md", "Is it the newest state?")
        assert "STRUCTURE HOLDS" in follow("auditor.md", "Check the structure alone")
        assert "SHA256:" in follow("auditor.md", "Be a witness")
        assert "sound" in follow("auditor.md", "Follow a log")
        assert "sound" in follow("auditor.md", "Hand in a report")
        assert served.stop() == 0


def test_no_block_is_left_out():
    """Every section with a command is followed above."""
    followed = {
        "operator.md": {"Start", "Publish the log's key", "Let parties in"}
        | {"Prepare for the loss of the log's key", "Give an auditor the ledger"},
        "provider.md": {"Enrol", "List your data", "Offer them", "Decide jobs by hand"}
        | {"Show your journal to an auditor", "Afterwards", "Change your keys"}
        | {"Sell scores of a model"},
        "auditor.md": {"Verify", "Is it the newest state?", "Check the structure alone"}
        | {"See who used what", "Be a witness", "Ask for an export"}
        | {"Follow a log", "Hand in a report"},
    }
    for page, headings in followed.items():
        assert sum(len(blocks(page, heading=each)) for each in headings) == len(blocks(page))
    assert {path.name for path in PAGES.glob("*.md")} >= {*followed, "researcher.md"}


def test_every_command_on_a_page_is_one_that_exists():
    """Quick: what the pages say is held against the commands' own parsers."""
    seen = 0
    for page in PAGES.glob("*.md"):
        for block in blocks(page.name):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("rongshu "):
                    words = shlex.split(line.partition(" > ")[0])
                    if words[1] != "audit":
                        parses(words[1], words[2:])
                    seen += 1
    assert seen > 25
