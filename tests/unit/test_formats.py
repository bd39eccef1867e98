"""The examples of ledger/FORMATS.md are what the code writes.

python tests/unit/test_formats.py       writes the examples anew
"""

import dataclasses
import hashlib
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ledger import note
from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.checkpoint import sign as sign_checkpoint
from ledger.cosignature import attach, cosign
from ledger.encoding import canonical, digest, parse
from ledger.first_manifest import HEADING as FIRST_HEADING
from ledger.fork import compare
from ledger.ids import short
from ledger.keys import CosigningKey, SigningKey
from ledger.manifest import HEADING, Openness, spans_table
from ledger.merkle import Tree, leaf_hash
from ledger.non_use import Exhibit
from ledger.non_use import make as make_non_use
from ledger.proof import make as make_proof
from ledger.report import payload_of as report_payload
from ledger.statements import KINDS, Asset, Measurement
from ledger.subject import of_export
from ledger.succession import Succession
from ledger.terms import Terms
from ledger.tiles import layout
from ledger.trust import Group, Policy, Witness
from ledger.use_index import write_tag_keys
from ledger.views import NO_AGREEMENT, Named, View, Views, seal, views_of
from ledger.witness import Request
from tests.drafts import key_of, tag_key_of
from tests.forgery import read_files
from tests.world import LOG_NAME, World, fixed_salts

PAGE = Path(__file__).resolve().parents[2] / "ledger" / "FORMATS.md"
GOLDEN = Path(__file__).resolve().parents[1] / "vectors" / "ledger" / "export-v1" / "everything"
SPANS = Openness(
    20, [("opened", 0, 12), ("sealed", 12, 15), ("erased", 15, 16), ("opened", 18, 20)]
)
BLOCK = re.compile(r"(<!-- example: ([a-z_]+) -->\n```[a-z]*\n)(.*?)(```\n)", re.DOTALL)
ENTRY = 4  # the first offer: it has references
NEXT_LOG_KEY = SigningKey.from_seed(LOG_NAME, hashlib.sha256(b"the log's next key").digest())


def play(folder: Path) -> World:
    with fixed_salts():
        return World.with_every_kind(folder, providers=2)


def payload_of(kind: str) -> Callable[[World], str]:
    def example(world: World) -> str:
        first = next(item for item in world.statements.values() if item.kind == kind)
        return indented(first.payload())

    return example


def indented(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def line(data: bytes) -> str:
    return data.decode() + "\n"


def keys(_world: World) -> str:
    key = key_of("hospital1.example")
    return f"{key.verify_key.text}\n{key.to_text()}\n{key.verify_key.fingerprint}\n"


def hashed(_world: World) -> str:
    value = digest("rongshu/statement-id/v1", b"abc").hex()
    return f'SHA-256("rongshu/statement-id/v1" || 0x00 || "abc") =\n{value}\n'


def statement_id(world: World) -> str:
    provider = world.providers[0]
    return f"{provider.offer}\n{short(provider.offer)}\n"


def tiles(_world: World) -> str:
    paths = [tile.path for tile in layout(70_000)]
    levels = ("entries", "0", "1", "2")
    rows = [[path for path in paths if path.startswith(f"tile/{level}/")] for level in levels]
    ends = [[*row[:1], "…", *row[-2:]] if len(row) > 3 else row for row in rows]
    return "".join(f"{path}\n" for row in ends for path in row)


def measurement(world: World) -> str:
    asset = world.statements[world.providers[0].asset]
    assert isinstance(asset, Asset)
    return indented(asset.measured().payload())


def succession(world: World) -> str:
    head = open_checkpoint(world.log.checkpoint(), world.log.vkey)
    change = Succession(head, world.log.vkey, NEXT_LOG_KEY.verify_key)
    return change.sign(NEXT_LOG_KEY, world.log_key).decode()


def cosigner(name: str) -> CosigningKey:
    seed = hashlib.sha256(b"witness " + name.encode()).digest()
    return CosigningKey.from_seed(f"witness.example/{name}", seed)


def cosigned(world: World) -> str:
    signed, now = world.log.checkpoint(), world.clock() // 1000
    lines = [cosign(signed, cosigner(name), now) for name in ("north", "south")]
    return attach(signed, lines).decode()


def witness_request(world: World) -> str:
    size, leaves = world.log.size, tree(world)
    return Request(5, leaves.consistency(5, size), world.log.checkpoint()).to_bytes().decode()


def policy(world: World) -> str:
    witnesses = [Witness(name, cosigner(name).verify_key) for name in ("north", "south", "west")]
    group = Group("two-of-three", 2, ("north", "south", "west"))
    seed = hashlib.sha256(b"the log's recovery key").digest()
    recovery = (SigningKey.from_seed(LOG_NAME, seed).verify_key,)
    logs = (world.log.vkey,)
    return Policy(logs, tuple(witnesses), (group,), group.name, recovery).text()


def tree(world: World) -> Tree:
    return Tree.from_leaf_hashes(map(leaf_hash, world.log.entry_bytes(0, world.log.size)))


def proof(world: World) -> str:
    entry = world.log.entry_bytes(ENTRY, ENTRY + 1)[0]
    return make_proof(tree(world), ENTRY, entry, world.log.checkpoint()).to_bytes().decode()


def fork(world: World) -> str:
    other = Checkpoint(LOG_NAME, world.log.size, leaf_hash(b"another history"))
    lie = sign_checkpoint(other, world.log_key)
    found = compare((world.log.checkpoint(), None), (lie, None))
    assert found is not None
    return found.to_bytes().decode()


def shown() -> dict[str, str]:
    """The examples on the page, by name."""
    return {name: text for _, name, text, _ in BLOCK.findall(PAGE.read_text())}


def files(world: World) -> dict[str, bytes]:
    path = world.folder / "example"
    return read_files(path if path.exists() else world.export(path))


def cut(text: str, length: int = 150) -> str:
    """The text with the rest of each long line left out."""
    return "".join(
        f"{row if len(row) <= length else row[: length - 1] + '…'}\n" for row in text.splitlines()
    )


def view_key(named: Named) -> View:
    """A key that belongs to nobody."""
    return View(named, hashlib.sha256(repr(tuple(named)).encode()).digest())


def sealed(world: World) -> str:
    assert world.use is not None
    index, history = world.log.index_of(world.use.job), world.log.history
    named = views_of(history.agreements_under(index), index, history.schedule)
    count = itertools.count()
    with patch("ledger.views.secrets") as drawn, patch("ledger.views.ChaCha20Poly1305") as cipher:
        drawn.token_bytes = lambda size: hashlib.sha256(b"nonce %d" % next(count)).digest()[:size]
        cipher.side_effect = ChaCha20Poly1305
        cipher.generate_key = lambda: hashlib.sha256(b"entry key").digest()
        line = seal(world.entries()[index], world.log.opening(index), [*map(view_key, named)])
    text, box = line.decode(), parse(line)["box"]
    return text.replace(box, box[:60] + "…") + "\n"


def views(world: World) -> str:
    found = [view_key(Named(*item)) for item in ((NO_AGREEMENT, 2), (5, 0), (5, 1))]
    keys = {view.named: view.key for view in found}
    return Views(world.log.vkey.name, keys).to_bytes().decode()


def tag_keys(world: World) -> dict[str, bytes]:
    return {provider.asset: tag_key_of(provider.name) for provider in world.providers}


def non_use(world: World) -> str:
    log = world.log
    tree = Tree.from_leaf_hashes(map(leaf_hash, log.entry_bytes(0, log.size)))

    def prove(index: int) -> Exhibit:
        (entry,) = log.entry_bytes(index, index + 1)
        return Exhibit(entry, log.opening(index), tree.inclusion(index, log.size))

    asset = world.providers[0].asset
    made = make_non_use(log.history, asset, 0, tag_keys(world), prove, log.checkpoint())
    head, _, checkpoint = made.to_bytes().decode().partition("\n\n")
    return f"{cut(head)}\n{checkpoint}"


def report(world: World) -> str:
    """The payload; of long lists the first item, of long texts the first line."""
    path = world.folder / "example"
    export = path if path.exists() else world.export(path)
    auditor = key_of("auditor.example").verify_key
    subject = of_export(export, Policy.of(world.log.vkey))
    made = report_payload(subject, auditor=auditor, made=world.clock())
    for name in ("assumptions", "checks", "disclosure", "participants"):
        made[name] = [*made[name][:1], "…"]
    for name, rows in (("money", "agreements"), ("epochs", "assets")):
        made[name][rows] = [*made[name][rows][:1], "…"]
    made["checkpoint"]["note"] = made["checkpoint"]["note"].split("\n")[0] + "\n…"
    return indented(made)


EXAMPLES: dict[str, Callable[[World], str]] = {
    "canonical": lambda _world: line(
        canonical({"words": "蓉数 \n", "numbers": [1, 0.5, 1e21, -0.0], "empty": None, "é": True})
    ),
    "hash": hashed,
    "keys": keys,
    "id": statement_id,
    "envelope": lambda world: line(world.openings()[ENTRY].envelope),
    **{kind: payload_of(kind) for kind in KINDS},
    "measurement": measurement,
    "entry": lambda world: line(world.log.entry_bytes(ENTRY, ENTRY + 1)[0]),
    "opening": lambda world: line(world.openings()[ENTRY].to_bytes()),
    "sealed": sealed,
    "views": views,
    "nonuse": non_use,
    "tagkeys": lambda world: write_tag_keys(tag_keys(world)).decode(),
    "journal": lambda world: world.journal(world.providers[0]).decode(),
    "note": lambda _world: note.sign("Data stays.\n", [key_of("operator.example")]).decode(),
    "checkpoint": lambda world: world.log.checkpoint().decode(),
    "succession": succession,
    "cosignature": cosigned,
    "witness_request": witness_request,
    "policy": policy,
    "tiles": tiles,
    "proof": proof,
    "fork": fork,
    "export": lambda world: "".join(f"{name}\n" for name in sorted(files(world))),
    "manifest": lambda world: files(world)["manifest"].decode(),
    "files": lambda world: files(world)["files"].decode(),
    "spans": lambda _world: spans_table(SPANS).decode(),
    "firstmanifest": lambda _world: (GOLDEN / "manifest").read_text(),
    "report": report,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return play(tmp_path_factory.mktemp("world"))


def test_every_example_is_on_the_page_and_every_marker_is_known():
    assert list(shown()) == re.findall(r"<!-- example: (\S+)", PAGE.read_text())
    assert sorted(shown()) == sorted(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_code_writes(world: World, name: str):
    assert shown()[name] == EXAMPLES[name](world)


def section(title: str) -> str:
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def fields_in_table(text: str, heading: str = "field") -> set[str]:
    table = text[text.index(f"| {heading} | meaning |") :]
    names: set[str] = set()
    for row in table.splitlines()[2:]:
        if not row.startswith("|"):
            break
        names |= set(re.findall(r"`(\w+)`", row.split("|")[1]))
    return names


@pytest.mark.parametrize(
    ("title", "record"),
    [*((kind, statement) for kind, statement in KINDS.items()), ("Measurement", Measurement)],
)
def test_the_page_lists_every_field(title: str, record: type):
    assert fields_in_table(section(title)) == {item.name for item in dataclasses.fields(record)}


def test_the_page_lists_every_term():
    listed = fields_in_table(section("offer"), "field of `terms`")
    assert listed == {item.name for item in dataclasses.fields(Terms)}


def test_the_page_names_versions_and_links_lead_somewhere():
    text = PAGE.read_text()
    assert HEADING in text
    assert FIRST_HEADING in text
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    titles = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([a-z-]+)\)", text)) <= titles


CODE = re.compile(
    r"""require\(\s*"(\w+)"|RuleError\(\s*"(\w+)"|\.(?:find|miss)\(\s*"(\w+)"
    |[Ff]inding\(\s*"(\w+)"|_report_lines\(\s*"(\w+)\"""",
    re.VERBOSE,
)
SOURCES = (
    "rules.py",
    "kind_rules.py",
    "epoch_rules.py",
    "history.py",
    "finding.py",
    "structure.py",
    "replay.py",
    "freshness.py",
    "verify.py",
    "accounts.py",
    "completeness.py",
    "journal_check.py",
    "reconcile.py",
    "evidence.py",
    "monitor.py",
    "standing.py",
)


def test_the_page_lists_every_finding():
    sources = [PAGE.parent / name for name in SOURCES]
    used = {"".join(found) for path in sources for found in CODE.findall(path.read_text())}
    rows = re.findall(r"^\| (`[^|]+) \|", section("Findings"), re.MULTILINE)
    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == used


def write() -> None:
    """Put what the code writes into the page."""
    with tempfile.TemporaryDirectory() as folder:
        world = play(Path(folder))
        text = BLOCK.sub(
            lambda found: f"{found[1]}{EXAMPLES[found[2]](world)}{found[4]}", PAGE.read_text()
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    write()
