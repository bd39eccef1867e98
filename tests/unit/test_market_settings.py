"""Settings: read once, from the environment they are given, and refused by name."""

from pathlib import Path

import pytest

from marketplace.errors import SettingsError
from marketplace.settings import Settings, describe

FOLDER = Path("data")


def test_defaults_need_no_environment():
    assert Settings.from_environment({}, FOLDER) == Settings(folder=FOLDER)


def test_every_setting_has_its_variable_and_a_meaning():
    environment = {
        variable: "7" if default.isdigit() and "_BYTES" not in variable else default
        for variable, default, _ in describe()
    }
    settings = Settings.from_environment(environment, FOLDER)
    assert (settings.fee_ppm, settings.port, settings.enrolment_hours) == (7, 7, 7)
    assert all(variable.startswith("RONGSHU_") and meaning for variable, _, meaning in describe())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RONGSHU_FEE_PPM", "1000001"),
        ("RONGSHU_FEE_PPM", "-1"),
        ("RONGSHU_FEE_PPM", "5%"),
        ("RONGSHU_PORT", "65536"),
        ("RONGSHU_PORT", "8_448"),
        ("RONGSHU_PORT", "\uff18"),
        ("RONGSHU_MAX_BODY_BYTES", "1"),
        ("RONGSHU_MAX_REPLY_BYTES", "1"),
        ("RONGSHU_MAX_REPLY_BYTES", str((64 << 20) + 1)),
        ("RONGSHU_NAME", "Not A Host"),
        ("RONGSHU_OPERATOR_NAME", "two\nlines"),
        ("RONGSHU_LEASE_SECONDS", "0"),
        ("RONGSHU_WORKERS", "0"),
        ("RONGSHU_WORKERS", "65"),
        ("RONGSHU_RUNNING_PER_RESEARCHER", "0"),
        ("RONGSHU_OPEN_PER_RESEARCHER", "0"),
        ("RONGSHU_GRANT_WAIT_SECONDS", "0"),
        ("RONGSHU_STREAMS_PER_CALLER", "0"),
        ("RONGSHU_DATABASE", "mysql://user:hunter2@host/name"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(variable: str, value: str):
    with pytest.raises(SettingsError, match=variable) as raised:
        Settings.from_environment({variable: value}, FOLDER)
    assert "hunter2" not in str(raised.value)


def test_load_reads_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RONGSHU_FEE_PPM", "12")
    assert Settings.load(FOLDER).fee_ppm == 12


def test_the_database_is_a_file_or_the_one_that_is_named():
    assert Settings(folder=FOLDER).where == FOLDER / "rongshu.db"
    url = "postgresql://user:hunter2@host/name"
    settings = Settings.from_environment({"RONGSHU_DATABASE": url}, FOLDER)
    assert settings.where == url
    assert "hunter2" not in repr(settings)
