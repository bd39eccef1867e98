"""A party's folder: what it remembers of its enrolment, whole and in the order others rely on."""

import stat
from pathlib import Path

import pytest

from ledger.keys import SigningKey
from marketplace.client import Home

PARTICIPANT = "participant:" + "1" * 64


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Home:
    key = SigningKey.generate("log").verify_key
    return Home.create(tmp_path / "lab", "Lab", "http://market.example", key)


def test_an_api_key_is_there_only_once_its_party_is_known(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """Guards: whoever looked in between took an empty file for the key of an enrolled party."""
    write, seen = Home._write, []

    def noticed(of: Home, value: dict[str, str]) -> None:
        seen.append(of.api_key())
        write(of, value)

    monkeypatch.setattr(Home, "_write", noticed)
    home.remember_enrolment(PARTICIPANT, "rsk_secret")
    assert seen == [None]
    assert (home.participant(), home.api_key()) == (PARTICIPANT, "rsk_secret")


def test_a_key_is_its_owners_to_read_and_nothing_else_is_left(home: Home):
    home.remember_enrolment(PARTICIPANT, "rsk_secret")
    assert stat.S_IMODE((home.folder / "api.key").stat().st_mode) == 0o600
    assert {path.name for path in home.folder.iterdir()} == {"api.key", "party.json", "signing.key"}


def test_a_second_enrolment_changes_nothing(home: Home):
    home.remember_enrolment(PARTICIPANT, "rsk_secret")
    with pytest.raises(FileExistsError):
        home.remember_enrolment("participant:" + "2" * 64, "rsk_other")
    assert (home.participant(), home.api_key()) == (PARTICIPANT, "rsk_secret")


def test_what_a_crash_left_behind_does_not_open_the_key_to_others(home: Home):
    left = home.folder / "api.key.new"
    left.write_text("half")
    left.chmod(0o644)
    home.remember_enrolment(PARTICIPANT, "rsk_secret")
    assert stat.S_IMODE((home.folder / "api.key").stat().st_mode) == 0o600
    assert not left.exists()
