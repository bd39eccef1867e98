"""Every command explains itself, with an example that its own parser accepts."""

import argparse
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator

import pytest

from marketplace.cli import job
from marketplace.scenario import page
from tests.served import COMMANDS, run_here

OURS = sorted(set(COMMANDS) - {"audit", "scenario"})


def subcommands(name: str) -> list[str]:
    listed = re.search(
        r"\nCOMMAND:?\n|positional arguments:\n  COMMAND\n", run_here(name, "--help")
    )
    if listed is None:
        return []
    block = run_here(name, "--help")[listed.end() :]
    return re.findall(r"^    ([a-z]+)\b", block.partition("\n\n")[0], re.MULTILINE)


def every_command() -> Iterator[tuple[str, ...]]:
    for name in OURS:
        found = subcommands(name)
        yield (name,)
        yield from ((name, sub) for sub in found)


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_help_has_an_example_that_is_valid(words: tuple[str, ...]):
    text = run_here(*words, "--help")
    assert text.startswith(f"usage: rongshu {' '.join(words)}")
    examples = text.partition("example:\n")[2].replace("\\\n", " ")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    assert lines
    for line in lines:
        argv = shlex.split(line.partition(" > ")[0])
        assert argv[: len(words) + 1] == ["rongshu", *words] or len(words) == 1
        parses(argv[1], argv[2:])


def parses(name: str, argv: list[str]) -> None:
    """Hold an example against the command's parser; nothing is done."""
    seen = []

    class Stop(Exception):  # noqa: N818
        pass

    original = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *arguments: object) -> argparse.Namespace:
        seen.append(original(self, *arguments))  # type: ignore[call-overload]
        raise Stop

    module, _, function = COMMANDS[name].partition(" ")[0].partition(":")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        with contextlib.suppress(Stop), contextlib.redirect_stderr(io.StringIO()) as errors:
            getattr(importlib.import_module(module), function)(argv)
    assert seen, errors.getvalue()


def test_all_the_commands_are_there():
    assert {words for words in every_command() if len(words) == 2} >= {
        ("asset", "add"),
        ("asset", "uses"),
        ("job", "result"),
        ("key", "deal"),
        ("key", "decrypt"),
        ("ledger", "export"),
        ("negotiate", "countersign"),
        ("node", "approve"),
        ("offer", "withdraw"),
        ("operator", "code"),
        ("settlement", "list"),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("job", "list", "--home", "NOWHERE"), "is no party's home; make one with `enrol`"),
        (("node", "show", "NOWHERE"), "holds no node; `rongshu node init` makes one"),
        (("operator", "key", "--data", "NOWHERE"), "holds no service"),
        (("ledger", "export", "x", "--data", "NOWHERE"), "holds no service"),
        (("revoke", "offer:12", "--cause", "x"), "write the whole id"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_typed_error_is_one_line(words: tuple[str, ...], message: str, tmp_path: object):
    complaint = run_here(*(word.replace("NOWHERE", f"{tmp_path}/x") for word in words), code=1)
    assert message in complaint
    assert complaint.startswith("rongshu: ")
    assert complaint.count("\n") == 1


def test_the_page_suggests_only_options_that_submitting_has(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        job.command(["submit", "--help"])
    shown = capsys.readouterr().out
    for option in page.OPTIONS:
        assert f"--{option} " in shown, option
