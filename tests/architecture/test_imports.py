"""The contracts of import-linter hold later, too: each is broken here once, on purpose."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

# A tree in the shape that the design gives the product, with imports that are all allowed.
ALLOWED = {
    "ledger/__init__.py": "",
    "ledger/errors.py": "",
    "ledger/keys.py": "import cryptography, ledger.errors",
    "ledger/proof.py": "import ledger.keys",
    "ledger/store.py": "import sqlite3, ledger.proof",
    "ledger/log.py": "import ledger.store",
    "ledger/client.py": "import httpx, ledger.proof",
    "ledger/cli.py": "import ledger.errors",
    "privacy/__init__.py": "",
    "privacy/paillier/__init__.py": "",
    "privacy/paillier/interop.py": "import phe",
    "privacy/ckks/__init__.py": "",
    "privacy/ckks/engine.py": "import tenseal",
    "privacy/ckks/worker.py": "",
    "privacy/mpc/__init__.py": "",
    "privacy/mpc/engine.py": "import mpyc",
    "privacy/mpc/party.py": "",
    "privacy/mechanisms.py": "import opendp",
    "privacy/accounting.py": "import opendp, privacy.mechanisms",
    "federated/__init__.py": "",
    "federated/tasks/__init__.py": "",
    "federated/tasks/sums.py": "import privacy.paillier, numpy",
    "federated/coordinator.py": "import flwr, federated.tasks.sums, ledger.client",
    "federated/node/__init__.py": "",
    "federated/node/guard.py": "import flwr, ledger.proof, federated.tasks.sums",
    "marketplace/__init__.py": "",
    "marketplace/errors.py": "",
    "marketplace/settings.py": "",
    "marketplace/participants/__init__.py": "import marketplace.settings",
    "marketplace/catalog/__init__.py": "import marketplace.participants",
    "marketplace/jobs/__init__.py": "import marketplace.catalog, federated.coordinator",
    "marketplace/settlement/__init__.py": "import marketplace.jobs",
    "marketplace/console/__init__.py": "import marketplace.settlement",
    "marketplace/app.py": "import marketplace.console, ledger.log",
    "marketplace/client.py": "import ledger.client",
    "marketplace/embedded.py": "import marketplace.app, federated.node.guard",
    "marketplace/scenario/__init__.py": "import marketplace.embedded",
    "marketplace/scenario/play.py": "import marketplace.client, federated.node.guard",
    "marketplace/cli.py": "import marketplace.scenario",
}

# contract, module, the import that breaks it
VIOLATIONS = [
    ("layers", "ledger/proof.py", "import privacy"),
    ("layers", "privacy/mpc/party.py", "import ledger.keys"),
    ("layers", "federated/plan.py", "import marketplace.jobs"),
    ("features", "marketplace/catalog/routes.py", "import marketplace.jobs"),
    ("features", "marketplace/client.py", "import marketplace.participants"),
    ("ledger-core", "ledger/proof.py", "import ledger.store"),
    ("ledger-core", "ledger/terms.py", "import ledger.client"),
    ("ledger-light", "ledger/monitor.py", "import fastapi"),
    ("ledger-light", "ledger/proof.py", "import sqlite3"),
    ("service-not-node", "marketplace/app.py", "import federated.node.guard"),
    ("service-not-node", "marketplace/jobs/routes.py", "import federated.back"),
    ("node-not-service", "federated/node/guard.py", "import federated.coordinator"),
    ("node-not-service", "federated/coordinator.py", "import federated.node.guard"),
    ("tasks-pure", "federated/tasks/sums.py", "import flwr"),
    ("door-phe", "federated/tasks/sums.py", "import phe"),
    ("door-phe", "privacy/paillier/packing.py", "import phe"),
    ("door-tenseal", "privacy/mpc/party.py", "import tenseal"),
    ("door-mpyc", "federated/node/guard.py", "import mpyc"),
    ("door-mpyc", "privacy/mpc/party.py", "import mpyc"),
    ("door-tenseal", "privacy/ckks/worker.py", "import tenseal"),
    ("door-opendp", "privacy/paillier/packing.py", "import opendp"),
    ("door-flwr", "marketplace/jobs/service.py", "import flwr"),
]


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    chosen = [word for contract in contracts for word in ("--contract", contract)]
    return subprocess.run(
        [LINT_IMPORTS, "--no-logo", "--no-cache", *chosen],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def plant(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copy(ROOT / "pyproject.toml", folder)


def test_the_designed_tree_keeps_every_contract(tmp_path: Path):
    plant(tmp_path, ALLOWED)
    answer = lint(tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(("contract", "module", "line"), VIOLATIONS)
def test_a_contract_bites(tmp_path: Path, contract: str, module: str, line: str):
    plant(tmp_path, {**ALLOWED, "federated/back.py": "import federated.node.guard"})
    path = tmp_path / module
    before = path.read_text() if path.exists() else ""
    path.write_text(f"{before}\n{line}\n")
    answer = lint(tmp_path, contract)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert re.search(r"1 broken", answer.stdout)


def test_the_product_keeps_every_contract():
    answer = lint(ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
