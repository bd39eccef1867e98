"""Where the sidecar lives and what it may use: the one place of it that reads the environment.

RONGSHU_SIDECAR_FOLDER      its folder (default: rongshu/sidecar/spu below $XDG_DATA_HOME)
RONGSHU_SIDECAR_HOSTS       IPv4 addresses at which two sidecars may meet (default: 127.0.0.1)
RONGSHU_SIDECAR_ADDRESS     where it listens (default: a free port of 127.0.0.1)
RONGSHU_SIDECAR_SECONDS     longest time of one intersection
RONGSHU_SIDECAR_PEER_SECONDS  longest wait for the other party's sidecar
RONGSHU_SIDECAR_MEMORY_MB   most address space of the worker

settings = SidecarSettings.load()                     # environment and defaults
settings = SidecarSettings(folder=Path("sidecar"))    # defaults alone, as tests do
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federated.errors import SidecarError

PREFIX: Final = "RONGSHU_SIDECAR_"
LOOPBACK: Final = "127.0.0.1"
LEAST_MEMORY_MB: Final = 2048
"""Two million ids took 1.8 GB of address space, most of it for the library and its threads."""

_NUMBERS: Final = (("seconds", 1), ("peer_seconds", 1), ("memory_mb", LEAST_MEMORY_MB))


@dataclass(frozen=True)
class SidecarSettings:
    """How a node uses its sidecar.

    Attributes:
        folder: what `rongshu sidecar spu install` fills.
        hosts: IPv4 addresses, its own and others', at which sidecars may meet; the operator names
            them, and no message does.
        address: IPv4 address and port where it listens while it works; empty for a free port of
            this machine's loopback.
        seconds: longest time of one intersection.
        peer_seconds: longest wait for the other party's sidecar to be there.
        memory_mb: most address space of the worker, in 2^20 bytes.

    Raises:
        SidecarError: a value that cannot be meant; the message names the variable.
    """

    folder: Path
    hosts: tuple[str, ...] = (LOOPBACK,)
    address: str = ""
    seconds: int = 600
    peer_seconds: int = 60
    memory_mb: int = 8192

    def __post_init__(self) -> None:
        for host in self.hosts:
            _check_host(host)
        if self.address and self.address.rpartition(":")[0] not in self.hosts:
            raise SidecarError(f"{PREFIX}ADDRESS: not at one of {PREFIX}HOSTS")
        for name, least in _NUMBERS:
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise SidecarError(f"{PREFIX}{name.upper()}: a whole number from {least} up")

    @classmethod
    def load(cls, folder: Path | None = None) -> SidecarSettings:
        """Return the settings of this process's environment; a folder given wins over it.

        Raises:
            SidecarError: see the class.
        """
        given = {
            name: _number(name, text)
            for name, _ in _NUMBERS
            if (text := os.environ.get(PREFIX + name.upper(), ""))
        }
        hosts = os.environ.get(PREFIX + "HOSTS", "")
        named = tuple(host.strip() for host in hosts.split(",")) if hosts else (LOOPBACK,)
        address = os.environ.get(PREFIX + "ADDRESS", "")
        return cls(folder=folder or _folder(), hosts=named, address=address, **given)


def _folder() -> Path:
    named = os.environ.get(PREFIX + "FOLDER", "")
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME", "")
    # The specification ignores a relative path.
    home = Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    return home / "rongshu" / "sidecar" / "spu"


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise SidecarError(f"{PREFIX}{name.upper()}: a whole number is needed")
    return int(text)


def _check_host(host: str) -> None:
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise SidecarError(f"{PREFIX}HOSTS: {host[:60]!r} is no IPv4 address") from None
    if address.is_unspecified or address.is_multicast:
        raise SidecarError(f"{PREFIX}HOSTS: {host} is not the address of one machine")
