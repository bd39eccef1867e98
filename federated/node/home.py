"""A node's folder: settings, keys and journal, and how a `Node` is opened from it.

    node.json      name, data file, how it is read, whom the node trusts and answers to
    node.key       signs measurements, mask keys and receipts (0600)
    fleet.key      proves the node to Flower's SuperLink (0600)
    ca.pem         whose certificate the marketplace must have, where it is not a public one
    api.key        lets the node, and only the node, reach the marketplace (0600)
    journal.db     what it reserved, launched, answered, refused and finished
    checkpoint     the highest checkpoint of the log that it ever verified
    results/       which of its own rows a job left for the provider, one file a job (0600)
    fork.proof     only where the log signed two histories; the node then refuses every job

A node guards one asset. It is made before the asset is listed, because the data card carries the
node's key and its measurement.

    home = NodeHome.create(folder, settings)
    measurement = home.measure(now)           # for the provider's data card
    home.guard(asset_id, digest, api_key)     # from now on only these bytes, for this asset
    node = home.open(http, clock)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from federated.address import address_of
from federated.certificates import CA
from federated.errors import NodeError
from federated.fleet_key import FleetKey
from federated.node.guard import Limits
from federated.node.identity import Identity
from federated.node.journal import Journal
from federated.node.profile import measure
from federated.node.runner import Node
from federated.node.service import HttpService
from federated.node.table import ReadingSpec, Table
from federated.node.talk import Means
from federated.node.threads import keep_to_plan
from federated.node.vault import MOST_BYTES, Listing, Vault
from federated.sidecar.intersection import Sidecar
from federated.sidecar.meeting import SidecarEnd
from federated.sidecar.settings import SidecarSettings
from ledger import durable
from ledger.client import LogClient
from ledger.errors import LedgerError
from ledger.journal import write_journal
from ledger.keys import SigningKey, VerifyKey
from ledger.statements import Measurement
from ledger.trust import MAX_BYTES, NONE, Policy

SETTINGS = "node.json"
FLEET_KEY = "fleet.key"
JOURNAL = "journal.db"
APPROVALS = ("rule", "hand")


@dataclass(frozen=True)
class NodeSettings:
    """How one node runs.

    Attributes:
        name: for people.
        file: the data file.
        reading: how it is read, as `ReadingSpec.to_json` writes it.
        service: base address of the marketplace.
        log_key: the log's verifier key, from elsewhere.
        provider: id of the provider's participant statement.
        provider_key: the provider's signing key, for grants.
        approval: `rule` grants what the terms permit; `hand` waits for `rongshu node approve`.
        minimum_rows: fewest rows in which two answered row sets may differ.
        row_selections: most different row selections ever answered.
        policy: file with the trust policy that checkpoints must meet; empty for the key alone.
        max_age_seconds: longest time since a quorum of witnesses saw the log; 0 for no limit.
        most_bytes: largest data file.
        asset: id of the asset statement; empty until it is listed.
        digest: digest of the listed bytes.
        seat: Flower's number for the node, from its enrolment; empty before.
    """

    name: str
    file: str
    reading: Mapping[str, Any]
    service: str
    log_key: str
    provider: str
    provider_key: str
    approval: str = "rule"
    minimum_rows: int = 5
    row_selections: int = 4
    most_bytes: int = MOST_BYTES
    policy: str = ""
    max_age_seconds: int = 0
    asset: str = ""
    digest: str = ""
    seat: str = ""

    def __post_init__(self) -> None:
        if self.approval not in APPROVALS:
            raise NodeError(f"approval: {self.approval!r} is none of {', '.join(APPROVALS)}")
        for name in ("minimum_rows", "row_selections", "most_bytes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise NodeError(f"{name}: a whole number from 1 up is needed")
        if type(self.max_age_seconds) is not int or self.max_age_seconds < 0:
            raise NodeError("max_age_seconds: a whole number from 0 up is needed")


@dataclass(frozen=True)
class NodeHome:
    """One node's folder with its settings."""

    folder: Path
    settings: NodeSettings

    @classmethod
    def create(cls, folder: Path, settings: NodeSettings) -> NodeHome:
        """Make the folder and a fresh node key.

        Raises:
            NodeError: there is a node in it already.
        """
        if (folder / SETTINGS).exists():
            raise NodeError(f"{folder} holds a node already")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_name = "-".join(settings.name.replace("+", " ").split()) + "-node"
        SigningKey.generate(key_name).save(folder / "node.key")
        ca = Path(settings.provider_key).parent / CA
        if ca.exists():
            # The node trusts whom its provider trusts.
            durable.replace(folder / CA, ca.read_bytes())
        home = cls(folder, settings)
        home._save()
        return home

    @classmethod
    def load(cls, folder: Path) -> NodeHome:
        """Open a node's folder.

        Raises:
            NodeError: it is none, or its settings cannot be meant.
        """
        path = folder / SETTINGS
        try:
            return cls(folder, NodeSettings(**json.loads(path.read_text())))
        except FileNotFoundError:
            raise NodeError(f"{folder} holds no node; `rongshu node init` makes one") from None
        except (ValueError, TypeError) as error:
            raise NodeError(f"{path}: {error}") from error

    def address(self) -> str:
        """Return where the marketplace can be reached.

        Raises:
            NodeError: the node belongs to a market that nobody serves now.
        """
        return address_of(self.folder, self.settings.service)

    def decide_by(self, approval: str) -> NodeHome:
        """Remember who decides from now on, `rule` or `hand`; return the home.

        Raises:
            NodeError: neither of them.
        """
        home = NodeHome(self.folder, replace(self.settings, approval=approval))
        home._save()
        return home

    def node_key(self) -> SigningKey:
        """Return the node's signing key."""
        return SigningKey.load(self.folder / "node.key")

    def vault(self) -> Vault:
        """Return the vault with this node's one file; nothing is opened yet."""
        settings = self.settings
        spec = ReadingSpec.parse(settings.reading)
        listing = Listing(Path(settings.file), spec, settings.digest or None)
        name = settings.asset or settings.name
        return Vault({name: listing}, most_bytes=settings.most_bytes)

    def table(self) -> tuple[Table, str]:
        """Read the data; return it with its content digest.

        Raises:
            VaultError, TableError: it cannot be used; names file, line and column.
        """
        return self.vault().table(self.settings.asset or self.settings.name)

    def measure(self, now: int) -> tuple[dict[str, Any], str]:
        """Measure the data; return the signed measurement and the content digest.

        Raises:
            VaultError, TableError: as `table`.
        """
        table, digest = self.table()
        measured = Measurement.from_payload(measure(table, digest) | {"issued": now})
        return measured.sign(self.node_key()), digest

    def guard(self, asset: str, digest: str, api_key: str) -> NodeHome:
        """Remember the listed asset; return the home that guards it."""
        home = NodeHome(self.folder, replace(self.settings, asset=asset, digest=digest))
        durable.replace(self.folder / "api.key", f"{api_key}\n".encode(), 0o600)
        home._save()
        return home

    def fleet_key(self) -> FleetKey:
        """Return the key by which the SuperLink knows this node; made for one that has no seat.

        Raises:
            NodeError: the file holds something else, or is gone.
        """
        path = self.folder / FLEET_KEY
        if not path.exists():
            if self.settings.seat:
                # Another key would be nobody's.
                raise NodeError(
                    f"{path} is gone, by which the SuperLink knows this node: put it back, or "
                    "enrol again with a code from `rongshu asset code --again`"
                )
            FleetKey.generate().save(path)
        return FleetKey.load(path)

    def unseated(self) -> NodeHome:
        """Give up the node's seat and its key, if it has one; return the home."""
        if not self.settings.seat:
            return self
        # The key first: a crash between leaves a seat without a key, and this is done again.
        (self.folder / FLEET_KEY).unlink(missing_ok=True)
        return self.seated("")

    def seated(self, seat: str) -> NodeHome:
        """Remember Flower's number for the node; return the home."""
        home = NodeHome(self.folder, replace(self.settings, seat=seat))
        home._save()
        return home

    def api_key(self) -> str:
        """Return the node's API key.

        Raises:
            NodeError: the asset is not listed yet.
        """
        path = self.folder / "api.key"
        if not path.exists():
            raise NodeError(f"{self.settings.name}: its asset is not listed yet")
        return path.read_text().strip()

    def trust(self) -> Policy:
        """Return what a checkpoint of the log must meet.

        Raises:
            NodeError: the policy cannot be read, does not know the log, or cannot tell its age.
        """
        settings = self.settings
        try:
            key = VerifyKey.from_text(settings.log_key)
            policy = Policy.of(key)
            if settings.policy:
                with Path(settings.policy).open("rb") as file:
                    policy = Policy.parse(file.read(MAX_BYTES + 1))
        except (LedgerError, OSError) as error:
            raise NodeError(f"{settings.policy or self.folder}: {error}") from error
        if key not in policy.logs:
            raise NodeError(f"{settings.policy}: does not list the log's key {key.text}")
        if settings.max_age_seconds and policy.quorum == NONE:
            raise NodeError(
                "max_age_seconds: only witnesses can tell how old a checkpoint is; name a policy "
                "with a quorum of them"
            )
        return policy

    def signed_journal(self, clock: Callable[[], int]) -> tuple[bytes, int]:
        """Return the node's journal for an auditor, and how many lines it has.

        The node may run meanwhile: the journal is taken as it stands.

        Args:
            clock: returns Unix milliseconds.

        Raises:
            NodeError: its asset is not listed yet, or its key is missing.
            JournalError: the journal cannot be trusted.
        """
        self.api_key()
        journal = Journal(self.folder / JOURNAL, clock)
        try:
            lines = journal.verified()
        finally:
            journal.close()
        try:
            key = self.node_key()
        except LedgerError as error:
            raise NodeError(f"{self.folder}: {error}") from error
        return write_journal(self.settings.asset, lines, key, now=clock()), len(lines)

    def open(self, http: httpx.Client, clock: Callable[[], int]) -> Node:
        """Open the node.

        Args:
            http: client with the marketplace as base address; gets the node's API key.
            clock: returns Unix milliseconds.

        Raises:
            NodeError: its asset is not listed yet, or a key or its policy cannot be used.
            JournalError: its journal cannot be trusted.
        """
        settings = self.settings
        keep_to_plan()
        http.headers["Authorization"] = f"Bearer {self.api_key()}"
        policy = self.trust()
        try:
            provider_key = SigningKey.load(Path(settings.provider_key))
            node_key = self.node_key()
        except LedgerError as error:
            raise NodeError(f"{self.folder}: {error}") from error
        journal = Journal(self.folder / JOURNAL, clock)
        journal.verify()
        return Node(
            Identity(settings.asset, settings.provider, provider_key, node_key),
            log=LogClient(
                http,
                policy,
                self.folder / "checkpoint",
                max_age=settings.max_age_seconds or None,
                clock=clock,
            ),
            service=HttpService(http),
            vault=self.vault(),
            means=Means(self.folder, _sidecar()),
            journal=journal,
            clock=clock,
            limits=Limits(row_selections=settings.row_selections),
            minimum_rows=settings.minimum_rows,
        )

    def _save(self) -> None:
        text = json.dumps(asdict(self.settings), indent=2, sort_keys=True) + "\n"
        durable.replace(self.folder / SETTINGS, text.encode())


def _sidecar() -> Callable[[], SidecarEnd]:
    """Return what makes this node's end of a meeting of sidecars, installed or not."""
    sidecar = Sidecar(SidecarSettings.load())
    return lambda: SidecarEnd(sidecar, lambda: datetime.now(UTC))
