"""Exports that an earlier version wrote stay readable, and say what they said then.

The folder `export-v1` was written once, by the first version that could export. It is never
written anew: whoever changes a format keeps reading this one.
"""

import shutil
from pathlib import Path

import pytest

from ledger.keys import VerifyKey
from ledger.verify import SOUND, TAMPERED, verify

GOLDEN = Path(__file__).resolve().parents[1] / "vectors" / "ledger" / "export-v1"
KEY = VerifyKey.from_text((GOLDEN / "log.vkey").read_text().strip())
ROOT = "775958f0d0caf2a5916272d2defd0df2df847a8af437af4d1ff81bc2fe16201e"


@pytest.mark.parametrize(
    ("name", "signatures", "sealed"), [("everything", 24, 0), ("public", 6, 16)]
)
def test_the_first_format_is_still_read(name: str, signatures: int, sealed: int):
    verdict = verify(GOLDEN / name, KEY)
    assert (verdict.status, verdict.findings, verdict.missing) == (SOUND, [], [])
    assert (verdict.size, verdict.root, verdict.sealed) == (22, ROOT, sealed)
    assert verdict.checked["signatures"] == signatures


@pytest.mark.parametrize("name", ["everything", "public"])
def test_a_changed_byte_in_the_first_format_is_still_found(name: str, tmp_path: Path):
    folder = tmp_path / "export"
    shutil.copytree(GOLDEN / name, folder)
    path = folder / "openings" / "000"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert verify(folder, KEY).status == TAMPERED
