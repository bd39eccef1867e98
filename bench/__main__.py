"""Runs one bench: `python -m bench NAME [--json] [--quick] [--entries N]`.

A bench is a module of this folder with a function `rows() -> list[bench.table.Row]`; its docstring
says what is compared with what. One whose size can be chosen takes it: `rows(entries=N)`, and one
that can be tried out in short `rows(quick=True)`. Without NAME the benches are listed.
"""

import argparse
import ast
import importlib
import inspect
import signal
import sys
from pathlib import Path

from bench import table
from ledger.collector import look_seldom

FOLDER = Path(__file__).parent
HARNESS = {
    "__main__",
    "cast",
    "checks",
    "environment",
    "federated_deployed",
    "federated_keys",
    "federated_market",
    "federated_plain",
    "federated_stock",
    "federated_trace",
    "privacy_ckks",
    "privacy_intersection",
    "privacy_mpc",
    "privacy_paillier",
    "privacy_sidecar",
    "privacy_threshold",
    "privacy_vertical",
    "resuming",
    "table",
}
EXAMPLES = """examples:
  ./run bench ledger --entries 20000
  ./run bench federated --quick
  ./run bench federated --json > federated.json
  ./run bench privacy
"""


def find_benches() -> dict[str, str]:
    """The benches by name, with the first line of their docstrings; none is imported."""
    return {
        path.stem: (ast.get_docstring(ast.parse(path.read_bytes())) or "").partition("\n")[0]
        for path in sorted(FOLDER.glob("*.py"))
        if path.stem not in HARNESS
    }


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= 10_000_000):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number from 1 to 10000000")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Run one bench and print a table, or one JSON object.

    Returns:
        0; 2 when there is no such bench.
    """
    parser = argparse.ArgumentParser(
        prog="./run bench",
        description="Measure one thing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="which bench; without it, list them")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    parser.add_argument("--quick", action="store_true", help="see that it works, on little data")
    parser.add_argument("--entries", type=_count, metavar="N", help="how many entries the log has")
    arguments = parser.parse_args(argv)
    benches = find_benches()
    if arguments.name is None:
        for name, summary in benches.items():
            print(f"{name:16} {summary}")
        return 0
    if arguments.name not in benches:
        known = ", ".join(benches)
        print(f"bench: there is no bench {arguments.name!r}; there are: {known}", file=sys.stderr)
        return 2
    look_seldom()  # as every command of `rongshu` does
    measure = importlib.import_module(f"bench.{arguments.name}").rows
    chosen = {} if arguments.entries is None else {"entries": arguments.entries}
    chosen |= {"quick": True} if arguments.quick else {}
    if chosen.keys() - inspect.signature(measure).parameters.keys():
        print(f"bench: {arguments.name} has no size to choose", file=sys.stderr)
        return 2
    rows = measure(**chosen)
    show = table.as_json if arguments.json else table.as_text
    print(show(arguments.name, table.machine(), rows))
    return 0


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    # By itself the signal would leave behind what a bench has started and stored.
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(main())
