import os
import sys
from pathlib import Path
from typing import Any

import pytest

from federated.errors import TableError, VaultError
from federated.node.table import ReadingSpec
from federated.node.vault import Listing, Vault
from ledger.encoding import sha256_text

DATA = b"a,b\n1,2\n"

opened = []
"""Paths that the interpreter opened; an audit hook cannot be removed, so it is set once."""
hooked = []


@pytest.fixture
def file(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_bytes(DATA)
    return path


def vault(path: Path, **settings: Any):
    return Vault({"mine": Listing(path, ReadingSpec())}, **settings)


def test_opens_the_bytes_with_their_digest(file: Path):
    assert vault(file).open("mine") == (DATA, sha256_text(DATA))


def test_opens_what_was_listed(file: Path):
    listed = vault(file).listed("mine", "asset:1", sha256_text(DATA))
    table, digest = listed.table("asset:1")
    assert table.names == ("a", "b")
    assert digest == sha256_text(DATA)
    assert listed.assets == ("asset:1", "mine")


def test_refuses_changed_data(file: Path):
    listed = vault(file).listed("mine", "asset:1", sha256_text(DATA))
    file.write_bytes(DATA + b"3,4\n")
    with pytest.raises(VaultError, match=r"data\.csv") as caught:
        listed.open("asset:1")
    assert caught.value.reason == "data_changed"


def test_refuses_an_unknown_asset(file: Path):
    with pytest.raises(VaultError, match="did you mean 'mine'") as caught:
        vault(file).open("mien")
    assert caught.value.reason == "unknown_asset"


def test_refuses_what_is_too_large(file: Path):
    assert vault(file, most_bytes=len(DATA)).open("mine")[0] == DATA
    with pytest.raises(VaultError) as caught:
        vault(file, most_bytes=len(DATA) - 1).open("mine")
    assert caught.value.reason == "too_large"


def test_refuses_what_is_no_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent", "pipe", "."):
        with pytest.raises(VaultError) as caught:
            vault(tmp_path / name).open("mine")
        assert caught.value.reason == "unreadable"


def test_a_bad_table_is_named_by_its_file(file: Path):
    file.write_bytes(b"a,b\n1\n")
    with pytest.raises(TableError, match=r"data\.csv, line 2"):
        vault(file).table("mine")


def test_only_open_opens_the_file(file: Path):
    if not hooked:
        sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
        hooked.append(True)
    opened.clear()
    made = vault(file).listed("mine", "asset:1", "sha256:other")
    made.listing("asset:1")
    with pytest.raises(VaultError):
        made.open("nobody")
    assert str(file) not in opened
    made.open("mine")
    assert str(file) in opened
