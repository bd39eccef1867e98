"""Reads the list of packages that the sidecar is made from: each by name, version and hashes.

The list is shipped with Rongshu and handed to pip, which installs what has one of these hashes and
nothing else. So it is read strictly here first: no address, no option, no file, no package without
a hash may stand in it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

from federated.errors import SidecarLockError

NAME: Final = "spu.lock"
PACKAGE: Final = "spu"
_ENTRY: Final = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[0-9][0-9a-z.]*)"
    r"(?: +--hash=sha256:[0-9a-f]{64})+"
)


@dataclass(frozen=True)
class Lock:
    """What is installed.

    Attributes:
        text: the list itself, as pip reads it.
        version: which SPU that is.
        digest: SHA-256 of the text, in hex; names the list.
    """

    text: str
    version: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Lock:
        """Read a list.

        Raises:
            SidecarLockError: it holds anything but packages with hashes, or no SPU.
        """
        versions: dict[str, str] = {}
        for line in text.replace("\\\n", " ").splitlines():
            entry = line.partition("#")[0].strip()
            if not entry:
                continue
            found = _ENTRY.fullmatch(" ".join(entry.split()))
            if found is None or found["name"] in versions:
                raise SidecarLockError
            versions[found["name"]] = found["version"]
        if PACKAGE not in versions:
            raise SidecarLockError
        return cls(text, versions[PACKAGE], hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def shipped(cls) -> Lock:
        """Read the list that came with this Rongshu.

        Raises:
            SidecarLockError: see `parse`; or it is not there.
        """
        try:
            text = (resources.files(__package__) / NAME).read_text("ascii")
        except (OSError, ValueError) as error:
            raise SidecarLockError from error
        return cls.parse(text)
