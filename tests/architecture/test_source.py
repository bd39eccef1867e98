"""What a reader may rely on in every module, and import-linter cannot say."""

import ast
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ledger", "privacy", "federated", "marketplace")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
VAGUE_NAMES = {
    "base",
    "blockchain",
    "common",
    "contract",
    "core",
    "helpers",
    "manager",
    "misc",
    "utils",
}

# Flower's switches are set in one place, which entry points call before they import Flower.
SWITCHES = "federated/switches.py"
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}

# In pieces, so that this file does not hold what it looks for.
FORBIDDEN_TEXT = re.compile(
    rb"pypi\." + rb"org|python" + rb"hosted\.|registry\.npm" + rb"js"
    rb"|(?<![\w.])/(?:root|home/\w+)/|" + re.escape(str(ROOT).encode()) + rb"(?![\w-])"
)

Finding = tuple[int, str]
Check = Callable[[ast.Module, str], Iterator[Finding]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parents_of(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def asserts(tree: ast.Module, _path: str) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert vanishes under -O: raise a typed error"


def long_functions(tree: ast.Module, _path: str) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines >= MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines"


def sets_flower_switch(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """`os.environ["FLWR_..."] = ...` or `os.environ.setdefault("FLWR_...", ...)`."""
    parent = parents[node]
    if isinstance(parent, ast.Subscript):
        key = parent.slice
    else:
        call = parents.get(parent)
        key = call.args[0] if isinstance(call, ast.Call) and call.args else parent
    return isinstance(key, ast.Constant) and str(key.value).startswith("FLWR_")


def environment_reads(tree: ast.Module, path: str) -> Iterator[Finding]:
    name = Path(path).name
    if name == "settings.py":
        return
    parents = parents_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            if ENVIRONMENT & {alias.name for alias in node.names}:
                yield node.lineno, "the environment is read in a settings.py alone"
        elif (
            isinstance(node, ast.Attribute)
            and node.attr in ENVIRONMENT
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            and not (path == SWITCHES and sets_flower_switch(node, parents))
        ):
            yield node.lineno, "the environment is read in a settings.py alone"


def imported_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def signatures_elsewhere(tree: ast.Module, path: str) -> Iterator[Finding]:
    if path == "ledger/keys.py":
        return
    for line, name in imported_names(tree):
        if re.search(r"\b(ed25519|ed448|ecdsa|dsa|mldsa|nacl)\b", name, re.IGNORECASE):
            yield line, f"{name}: signatures are made and checked in ledger.keys alone"


def loose_randomness(tree: ast.Module, path: str) -> Iterator[Finding]:
    """Numbers that hide something come from one place; seeded ones come from the plan."""
    # The split hides nothing: it repeats what a signed agreement names by its seed.
    if path in ("privacy/secure_random.py", "federated/node/split.py"):
        return
    own = ("secrets", "os.urandom") if path.startswith("privacy/") else ()
    for line, name in imported_names(tree):
        if name.partition(".")[0] in {"random", *own}:
            yield line, f"{name}: privacy.secure_random is the source of randomness"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {
            "np.random",
            "numpy.random",
            *own,
        }:
            yield node.lineno, "privacy.secure_random is the source of randomness"


def undocumented(tree: ast.Module, _path: str) -> Iterator[Finding]:
    if not ast.get_docstring(tree):
        yield 1, "the module has no docstring"
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    while scopes:
        for node in scopes.pop().body:
            if not isinstance(node, Function | ast.ClassDef) or node.name[0] == "_":
                continue
            if not ast.get_docstring(node):
                yield node.lineno, f"{node.name} has no docstring"
            # What a method means may stand at the parent; there ruff's word is enough.
            if isinstance(node, ast.ClassDef) and not node.bases:
                scopes.append(node)


CHECKS = (
    asserts,
    long_functions,
    environment_reads,
    signatures_elsewhere,
    loose_randomness,
    undocumented,
)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_keeps_the_rules(path: Path):
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    findings = [f for check in CHECKS for f in check(tree, name_of(path))]
    lines = len(text.splitlines())
    if lines >= MAX_MODULE_LINES:
        findings.append((lines, f"the module has {lines} lines: split it"))
    if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES:
        findings.append((1, "the name says nothing about what is inside"))
    assert not findings, "\n".join(f"{name_of(path)}:{line}: {what}" for line, what in findings)


def test_no_module_of_tests_or_benches_has_two_jobs():
    paths = [path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py")]
    lines = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert {name: count for name, count in lines.items() if count > MAX_MODULE_LINES} == {}


FLOWER_SWITCH = "import os\nos.environ.setdefault('FLWR_HOME', '')\n"
BROKEN = [
    (asserts, "ledger/x.py", "def f(x):\n    assert x\n"),
    (long_functions, "ledger/x.py", "def f():\n" + "    pass\n" * 60),
    (environment_reads, "ledger/x.py", "import os\nos.environ['FLWR_HOME'] = ''\n"),
    (environment_reads, "ledger/cli.py", FLOWER_SWITCH),
    (environment_reads, SWITCHES, "import os\nos.environ['HOME']\n"),
    (environment_reads, "ledger/cli.py", "from os import getenv\n"),
    (
        signatures_elsewhere,
        "ledger/note.py",
        "from cryptography.hazmat.primitives.asymmetric import ed25519\n",
    ),
    (
        signatures_elsewhere,
        "federated/x.py",
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey\n",
    ),
    (
        signatures_elsewhere,
        "ledger/witness.py",
        "from cryptography.hazmat.primitives.asymmetric import mldsa\n",
    ),
    (loose_randomness, "federated/x.py", "import random\n"),
    (loose_randomness, "privacy/masking.py", "import secrets\n"),
    (loose_randomness, "privacy/masking.py", "import os\nos.urandom(3)\n"),
    (loose_randomness, "federated/x.py", "import numpy as np\nnp.random.normal()\n"),
    (undocumented, "ledger/x.py", '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): pass\n'),
]
KEPT = [
    (environment_reads, "ledger/settings.py", "import os\nos.environ['HOME']\n"),
    (environment_reads, SWITCHES, FLOWER_SWITCH),
    (signatures_elsewhere, "ledger/keys.py", "from cryptography.x import ed25519\n"),
    (
        signatures_elsewhere,
        "privacy/masking.py",
        "from cryptography.x.x25519 import X25519PublicKey\n",
    ),
    (loose_randomness, "privacy/secure_random.py", "import secrets\n"),
    (undocumented, "ledger/x.py", '"""Doc."""\ndef _f(): pass\n'),
]


@pytest.mark.parametrize(("check", "path", "source"), BROKEN)
def test_each_check_bites(check: Check, path: str, source: str):
    assert list(check(ast.parse(source), path))


@pytest.mark.parametrize(("check", "path", "source"), KEPT)
def test_each_check_lets_the_allowed_pass(check: Check, path: str, source: str):
    assert not list(check(ast.parse(source), path))


def repository_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the repository is unknown")
    listing = subprocess.run(
        [git, "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    ).stdout
    return [
        path for name in listing.split(b"\0") if name and (path := ROOT / name.decode()).is_file()
    ]


def test_no_file_names_a_registry_or_a_workspace():
    found = [
        f"{name_of(path)}:{number}: {line.strip().decode(errors='replace')[:120]}"
        for path in repository_files()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if FORBIDDEN_TEXT.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [b"https://pypi." + b"org/simple", b"open('/ho" + b"me/ann/x')", b"cd /ro" + b"ot/x"],
)
def test_the_text_check_bites(text: bytes):
    assert FORBIDDEN_TEXT.search(text)
