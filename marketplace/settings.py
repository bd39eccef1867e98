"""Settings of the service: a data folder and environment variables named RONGSHU_….

This is the only place of the service that reads the environment. Every field of `Settings` but the
folder has its variable: `fee_ppm` is RONGSHU_FEE_PPM. What the variables do not set keeps its
default; a value that cannot be meant is refused and named.

    settings = Settings.load(Path("data"))      # environment and defaults
    settings = Settings(folder=Path("data"))    # defaults alone, as tests do
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from marketplace.errors import SettingsError

PREFIX = "RONGSHU_"
PPM = 1_000_000
_POSTGRESQL = re.compile(r"(postgres|postgresql|postgresql\+psycopg)://")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?(:[0-9]{1,5})?")


def _setting(
    default: Any, help_: str, least: int = 0, most: int = 0, *, secret: bool = False
) -> Any:
    return field(
        default=default, repr=not secret, metadata={"help": help_, "least": least, "most": most}
    )


@dataclass(frozen=True)
class Settings:
    """How one service runs. The metadata of each field says what it does and its limits.

    Raises:
        SettingsError: a value outside its limits; the message names the variable.
    """

    folder: Path
    database: str = _setting(
        "",
        "PostgreSQL database to use, postgresql://user@host/name; empty is the SQLite file "
        "rongshu.db in the data folder",
        secret=True,
    )
    name: str = _setting("rongshu.local", "name of this marketplace; origin of its log and keys")
    operator_name: str = _setting("Rongshu operator", "the operator's name as participants see it")
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8448, "port to listen on; 0 takes a free one", 0, 65535)
    tls_certificate: str = _setting(
        "",
        "file with the server's TLS certificate; empty is tls/server.pem in the data folder, and "
        "plain HTTP where there is none",
    )
    tls_key: str = _setting("", "file with its key; empty is tls/server.key in the data folder")
    superlink_port: int = _setting(
        0, "port of the SuperLink on loopback; 0 takes a free one", 0, 65535
    )
    fee_ppm: int = _setting(50_000, "operator's fee in parts per million of the price", 0, PPM)
    max_body_bytes: int = _setting(2 << 20, "largest request body", 1 << 10, 1 << 30)
    max_reply_bytes: int = _setting(
        64 << 20, "largest reply of a node to a step of a job", 1 << 10, 64 << 20
    )
    log_wait_seconds: int = _setting(10, "longest wait for a checkpoint before 503", 1, 600)
    lease_seconds: int = _setting(600, "after this time without progress a job is taken over", 1)
    workers: int = _setting(1, "jobs that run at the same time", 1, 64)
    running_per_researcher: int = _setting(
        4, "jobs of one researcher that run at the same time; more wait", 1
    )
    open_per_researcher: int = _setting(
        500, "jobs of one researcher that have not ended; more are refused", 1
    )
    grant_wait_seconds: int = _setting(
        86_400, "a job that waits longer than this for a grant fails with no_answer", 1
    )
    streams_per_caller: int = _setting(
        8, "event streams that one participant may have open; more are refused", 1, 1000
    )
    rejoin_seconds: int = _setting(
        30, "how long a running job waits for a node that is lost", 1, 86400
    )
    busy_seconds: int = _setting(30, "longest wait for the database's write lock", 1, 600)
    witness_policy: str = _setting(
        "", "file with the witnesses that must cosign the log; none: none"
    )
    cosign_seconds: int = _setting(60, "a quiet log is cosigned anew after this time", 1, 86400)
    epoch_entries: int = _setting(4096, "entries in an epoch of a new log; 0 for no epochs")
    grace_entries: int = _setting(
        4096, "entries after its end from which on an epoch's closes are missing, in a new log", 1
    )
    enrolment_hours: int = _setting(24, "validity of an enrolment code", 1, 24 * 365)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                f"{PREFIX}NAME: {self.name!r} is no host name (lower case letters, digits, . and -)"
            )
        if not self.operator_name.strip() or not self.operator_name.isprintable():
            raise SettingsError(f"{PREFIX}OPERATOR_NAME: must be one line of printable text")
        # The value is not repeated: it may hold a password.
        if self.database and not _POSTGRESQL.match(self.database):
            raise SettingsError(f"{PREFIX}DATABASE: must begin with postgresql://")
        for each in dataclasses.fields(self):
            value, least, most = getattr(self, each.name), 0, 0
            if each.metadata and type(value) is int:
                least, most = each.metadata["least"], each.metadata["most"] or 1 << 31
                if not least <= value <= most:
                    raise SettingsError(
                        f"{PREFIX}{each.name.upper()}: {value} is not between {least} and {most}"
                    )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the settings of this process's environment.

        Raises:
            SettingsError: see the class.
        """
        return cls.from_environment(os.environ, folder)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], folder: Path) -> Self:
        """Return the settings of a given environment.

        Raises:
            SettingsError: see the class; also for a number that is none.
        """
        values: dict[str, Any] = {}
        for each in dataclasses.fields(cls):
            variable = PREFIX + each.name.upper()
            if each.metadata and variable in environment:
                values[each.name] = _read(variable, environment[variable], each.default)
        return cls(folder=folder, **values)

    def environment(self) -> dict[str, str]:
        """Return this process's environment with these settings in it, for a process to start."""
        ours = {
            PREFIX + each.name.upper(): str(getattr(self, each.name))
            for each in dataclasses.fields(self)
            if each.metadata
        }
        return {**os.environ, **ours}

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """The server's certificate and key; None where the service speaks plain HTTP."""
        certificate = Path(self.tls_certificate or self.tls_folder / "server.pem")
        key = Path(self.tls_key or self.tls_folder / "server.key")
        return (certificate, key) if self.tls_certificate or certificate.exists() else None

    @property
    def tls_folder(self) -> Path:
        """Certificates that were made here, and the authority that signed them."""
        return self.folder / "tls"

    @property
    def superlink_folder(self) -> Path:
        """State and keys of the SuperLink."""
        return self.folder / "superlink"

    @property
    def database_file(self) -> Path:
        """The SQLite file, used where no other database is named."""
        return self.folder / "rongshu.db"

    @property
    def where(self) -> Path | str:
        """The database: the SQLite file, or a URL."""
        return self.database or self.database_file

    @property
    def log_folder(self) -> Path:
        """Where the newest checkpoint is kept, apart from the database."""
        return self.folder / "log"

    @property
    def log_key(self) -> Path:
        """The log's signing key (0600)."""
        return self.folder / "keys" / "log" / "signing.key"

    @property
    def second_log_key(self) -> Path:
        """An ML-DSA-44 key of the log (0600); where it is, each checkpoint has its line too."""
        return self.folder / "keys" / "log" / "second.key"

    @property
    def operator_key(self) -> Path:
        """The operator's signing key (0600)."""
        return self.folder / "keys" / "operator" / "signing.key"

    @property
    def operator_api_key(self) -> Path:
        """The operator's API key (0600)."""
        return self.folder / "keys" / "operator" / "api.key"


def describe() -> list[tuple[str, str, str]]:
    """Return variable, default and meaning of every setting, for the documentation."""
    return [
        (PREFIX + each.name.upper(), str(each.default), each.metadata["help"])
        for each in dataclasses.fields(Settings)
        if each.metadata
    ]


def _read(variable: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    # Not int(): it takes underscores, spaces and digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise SettingsError(f"{variable}: {text[:40]!r} is not a whole number from 0 up")
    return int(text)
