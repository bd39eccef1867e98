"""The one place where a data file is opened.

Everything else works on the bytes returned here, so a test that listens to the interpreter's
`open` events can prove that a refused job never touched the data. The digest is taken over exactly
those bytes: what is computed on is what was listed.

    vault = Vault({"cleveland": Listing(Path("cleveland.csv"), spec)}, most_bytes=1 << 30)
    data, digest = vault.open("cleveland")
    vault = vault.listed("cleveland", asset_id, digest)    # from now on only these bytes
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from federated.errors import VaultError, suggestion
from federated.node.table import ReadingSpec, Table, read_table
from ledger.encoding import sha256_text

MOST_BYTES = 1 << 30
"""Default for the largest file, 1 GiB; a setting of the node may change it."""


@dataclass(frozen=True)
class Listing:
    """Where an asset's file is, how it is read, and the digest it was listed with, if it was."""

    path: Path
    spec: ReadingSpec
    digest: str | None = None


class Vault:
    """Knows where assets are; opens them whole, bounded, and only unchanged."""

    def __init__(self, listings: Mapping[str, Listing], *, most_bytes: int = MOST_BYTES) -> None:
        """Takes asset (id or local name) -> listing; opens nothing."""
        self._listings = dict(listings)
        self._most_bytes = most_bytes

    @property
    def assets(self) -> tuple[str, ...]:
        """The assets known, sorted."""
        return tuple(sorted(self._listings))

    def listing(self, asset: str) -> Listing:
        """Returns an asset's listing.

        Raises:
            VaultError: unknown_asset.
        """
        if asset not in self._listings:
            raise VaultError(
                "unknown_asset", f"no asset {asset!r} here{suggestion(asset, self._listings)}"
            )
        return self._listings[asset]

    def listed(self, asset: str, asset_id: str, digest: str) -> "Vault":
        """Returns a vault that also knows the asset by its id, and opens it only with this digest.

        Raises:
            VaultError: unknown_asset.
        """
        fixed = replace(self.listing(asset), digest=digest)
        return Vault({**self._listings, asset_id: fixed}, most_bytes=self._most_bytes)

    def open(self, asset: str) -> tuple[bytes, str]:
        """Returns the file's bytes and their "sha256:…" digest.

        Raises:
            VaultError: unknown_asset, unreadable, too_large, or data_changed when the bytes are
                not the ones that were listed.
        """
        listing = self.listing(asset)
        data = self._read(asset, listing.path)
        digest = sha256_text(data)
        if listing.digest is not None and digest != listing.digest:
            raise VaultError(
                "data_changed",
                f"{listing.path.name} is not the file that asset {asset!r} was listed with; put "
                "it back, or measure and list it as a new asset",
            )
        return data, digest

    def table(self, asset: str) -> tuple[Table, str]:
        """Returns the asset as a table, and its digest.

        Raises:
            VaultError: As `open`.
            TableError: If the bytes cannot be read.
        """
        data, digest = self.open(asset)
        listing = self.listing(asset)
        return read_table(data, listing.spec, listing.path.name), digest

    def _read(self, asset: str, path: Path) -> bytes:
        """Reads a regular file of bounded size (a pipe or device could block or never end)."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as stream:
                regular = stat.S_ISREG(os.fstat(handle).st_mode)
                # One byte more than allowed shows that there is more.
                data = stream.read(self._most_bytes + 1) if regular else b""
        except OSError as error:
            reason = error.strerror or "cannot be read"
            raise VaultError("unreadable", f"{path.name} of asset {asset!r}: {reason}") from None
        if not regular:
            raise VaultError("unreadable", f"{path.name} of asset {asset!r} is no regular file")
        if len(data) > self._most_bytes:
            raise VaultError(
                "too_large",
                f"{path.name} of asset {asset!r} exceeds {self._most_bytes} bytes; raise the "
                "node's limit or split the file",
            )
        return data
