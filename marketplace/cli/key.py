"""Share a key that nobody holds, and make your part of a sum that is under it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ledger import durable
from ledger.encoding import canonical
from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.parties import client_of, pick
from marketplace.cli.show import aside, print_json, say, short
from marketplace.key_holder import KeyHolder, check_holder, write_partial
from privacy.paillier import DEFAULT_BITS, KeyShare, deal

DEAL = "rongshu key deal --holders participant:3f…,participant:a0…,participant:c7… --out dealt"
DECRYPT = "rongshu key decrypt --home alba --share alba.share --out overview.partial overview"
# A line about the search for primes after so many candidates.
_EVERY = 500


def command(argv: list[str]) -> int:
    """Run `rongshu key …` and return its exit code."""
    parser, into = args.commands("rongshu key", "Keys that holders share.", DEAL)
    dealing = args.subcommand(
        into,
        "deal",
        _deal,
        "make a key and share it among holders, as a dealer who is none of them",
        DEAL,
        "Writes key.json, for the researcher who submits under it, and one file for each holder. "
        "Hand each holder its own file and delete it: whoever has the files of as many holders as "
        "the threshold says opens everything. Takes half a minute or several.",
    )
    dealing.add_argument(
        "--holders", required=True, metavar="ID,ID,…", help="their participant ids, 2 to 16"
    )
    dealing.add_argument(
        "--threshold", type=int, default=2, metavar="N", help="how many open (default: 2)"
    )
    dealing.add_argument(
        "--bits", type=int, default=DEFAULT_BITS, help=f"of the modulus (default: {DEFAULT_BITS})"
    )
    dealing.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a new folder, for you alone"
    )
    args.as_json(dealing)
    part = args.subcommand(
        into,
        "decrypt",
        _decrypt,
        "make your part of a released sum, after adding it up yourself",
        DECRYPT,
        "Bring the file to the researcher, not by way of the operator: two of them open the sum "
        "for whoever has it encrypted.",
    )
    args.of_party(part)
    part.add_argument(
        "--share", type=Path, required=True, metavar="FILE", help="your share, as it was dealt"
    )
    part.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    part.add_argument("job", metavar="JOB", help="its id, the beginning of it, or its name")
    args.as_json(part)
    return args.run(parser, argv)


def _deal(arguments: argparse.Namespace) -> int:
    holders = [check_holder(name) for name in args.words(arguments.holders) or ()]
    if arguments.out.exists():
        raise ArgumentError(f"--out: {arguments.out} exists already")
    shares = deal(holders, threshold=arguments.threshold, bits=arguments.bits, tries=_Tries().heard)
    arguments.out.mkdir(mode=0o700, parents=True)
    key = arguments.out / "key.json"
    durable.replace(key, canonical(shares[0].key.to_json()) + b"\n")
    files = {}
    for number, share in enumerate(shares, 1):
        file = arguments.out / f"holder-{number}.share"
        share.save(file)
        files[share.holder] = str(file)
    if arguments.json:
        print_json({"key": str(key), "shares": files, "threshold": arguments.threshold})
        return 0
    say(f"{key}: for the researcher, who submits with --shared-key")
    for holder, name in files.items():
        say(f"{name}: for {short(holder)} alone")
    say(f"{arguments.threshold} of {len(shares)} open. The primes are gone; so be these files.")
    return 0


class _Tries:
    """Shows on a terminal that primes are still being sought."""

    def heard(self, tested: int) -> None:
        """Take the number of candidates tested for the present prime."""
        if tested % _EVERY == 0 and sys.stderr.isatty():
            aside(f"seeking safe primes: {tested} candidates tested")


def _decrypt(arguments: argparse.Namespace) -> int:
    share = KeyShare.load(arguments.share)
    client = client_of(arguments, KeyHolder)
    job = str(pick(client.call("GET", "/jobs"), arguments.job, key="job")["job"])
    partial = client.decrypt(job, share)
    write_partial(arguments.out, job, partial)
    if arguments.json:
        print_json({"job": job, "holder": partial.holder, "file": str(arguments.out)})
        return 0
    say("checked here: the released sum is that of the contributions that the nodes receipted")
    say(f"{arguments.out}: your part of {short(job)}, for its researcher alone")
    return 0
