"""The command line `rongshu`: finds the command that was asked for, and runs that one alone.

Commands are entry points of the group `rongshu.commands`, each a callable
`command(argv: list[str]) -> int` that returns the exit code. Only the module of the command asked
for is imported, so the auditor's install runs `rongshu audit` without a web framework or numpy,
and starting is quick. A command that needs an extra names it in its entry point
(`node = "federated.node.cli:command [node]"`); where the extra is missing, the person is told how
to install it.

How errors end: a package draws its errors as one tree in its module `errors` (`ledger.errors`,
`federated.errors`, ...). Whatever derives from a class of such a module is a message to the person:
one line on standard error, exit code 1, no traceback. Every other exception is a defect and keeps
its traceback. Exit codes: what the command returned; 1 a typed error; 2 wrong usage; 130 after
Ctrl-C; 141 when the reader of standard output went away. The last two end without a word.

Example:
    $ rongshu audit verify out/export --key "$(cat log.vkey)"
"""

import argparse
import ast
import difflib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import cast

from ledger.collector import look_seldom

GROUP = "rongshu.commands"
DISTRIBUTION = "rongshu"
# The packages of this distribution; the ledger knows their names and imports none of them.
PACKAGES = ("ledger", "privacy", "federated", "marketplace")
EXAMPLE = 'example: rongshu audit verify out/export --key "$(cat log.vkey)"'
# 128 + the signal's number, as shells count.
INTERRUPTED = 130
PIPE_CLOSED = 141

Command = Callable[[list[str]], int]


class _VersionAction(argparse.Action):
    """Prints the installed version; reading metadata takes time, so only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_args: object) -> None:
        """Print `rongshu VERSION` and end with exit code 0."""
        sys.stdout.write(f"rongshu {metadata.version(DISTRIBUTION)}\n")
        parser.exit()


class _HelpAction(argparse.Action):
    """Prints help with a line for each command, which takes reading their modules' docstrings."""

    def __call__(self, parser: argparse.ArgumentParser, *_args: object) -> None:
        """Print the help and end with exit code 0."""
        sys.stdout.write(help_text(parser, find_commands()))
        parser.exit()


def find_commands() -> dict[str, metadata.EntryPoint]:
    """The installed commands by name, in alphabetical order; none is imported."""
    found = metadata.entry_points(group=GROUP)
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}


def summary(entry: metadata.EntryPoint) -> str:
    """The first line of the docstring of a command's module, without importing the module.

    Only the packages above it are imported, which hold nothing but a docstring.
    """
    try:
        spec = importlib.util.find_spec(entry.module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        return f"(not installed: {entry.module})"
    tree = ast.parse(Path(spec.origin).read_bytes())
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def help_text(parser: argparse.ArgumentParser, commands: Mapping[str, metadata.EntryPoint]) -> str:
    """The whole help: usage, every command with its summary, and an example."""
    width = max((len(name) for name in commands), default=0)
    lines = [f"  {name:<{width}}  {summary(entry)}" for name, entry in commands.items()]
    listed = "\n".join(["commands:", *(lines or ["  (none installed)"])])
    return f"{parser.format_help()}\n{listed}\n\n`rongshu COMMAND --help` tells more.\n{EXAMPLE}\n"


def build_parser() -> argparse.ArgumentParser:
    """The parser of what stands before a command's own arguments."""
    parser = argparse.ArgumentParser(
        prog="rongshu",
        usage="rongshu [--help] [--version] COMMAND ...",
        description="A marketplace for data elements that stay usable but invisible.",
        add_help=False,
    )
    parser.add_argument("-h", "--help", action=_HelpAction, nargs=0, help="show this and exit")
    parser.add_argument(
        "--version", action=_VersionAction, nargs=0, help="show the version and exit"
    )
    parser.add_argument("command", metavar="COMMAND", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def complain(message: str) -> None:
    """Write one line to standard error, whatever line breaks the message has."""
    sys.stderr.write("rongshu: " + " ".join(message.split()) + "\n")


def is_typed(error: BaseException) -> bool:
    """Whether an error derives from the error tree of one of our packages."""
    trees = {f"{package}.errors" for package in PACKAGES}
    return any(base.__module__ in trees for base in type(error).__mro__)


def describe(error: BaseException) -> str:
    """The message of a typed error; its docstring's first line where it was raised bare."""
    return str(error) or (type(error).__doc__ or type(error).__name__).partition("\n")[0]


def unknown_command(name: str, known: Sequence[str]) -> int:
    """Say which command was probably meant. Returns exit code 2."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"; did you mean {near[0]!r}?" if near else "; rongshu --help lists the commands"
    complain(f"no such command: {name!r}{meant}")
    return 2


def missing_extra(entry: metadata.EntryPoint, module: str) -> int:
    """Say how to install what a command needs. Returns exit code 1."""
    extras = ",".join(entry.extras) or "all"
    complain(
        f"the command {entry.name!r} needs the module {module!r}, which is not installed. "
        f"Install it with: pip install 'rongshu[{extras}]'"
    )
    return 1


def is_foreign(error: ModuleNotFoundError) -> bool:
    """Whether the missing module is somebody else's: one of ours missing is a defect."""
    return error.name is not None and error.name.partition(".")[0] not in PACKAGES


def run_command(entry: metadata.EntryPoint, argv: list[str]) -> int:
    """Import one command and run it.

    Args:
        entry: the entry point of the command.
        argv: the arguments after the command's name.

    Returns:
        Its exit code; 1 for a typed error or a missing extra, 130 after Ctrl-C, 141 when the
        reader of standard output went away.
    """
    try:
        code = cast("Command", entry.load())(argv)
        sys.stdout.flush()  # a closed pipe shows here, not in the interpreter's last moments
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, `head` perhaps, has what it wanted. Python flushes once more at exit:
        # give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except ModuleNotFoundError as error:
        if not is_foreign(error):
            raise
        return missing_extra(entry, str(error.name))
    except Exception as error:
        if not is_typed(error):
            raise
        complain(describe(error))
        return 1
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run `rongshu` with the given arguments, or those of the process.

    Returns:
        The exit code, as the module's docstring lists them.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        sys.stdout.write(help_text(parser, find_commands()))
        return 2
    commands = find_commands()
    entry = commands.get(arguments.command)
    if entry is None:
        return unknown_command(arguments.command, list(commands))
    look_seldom()
    return run_command(entry, arguments.rest)


if __name__ == "__main__":
    sys.exit(main())
