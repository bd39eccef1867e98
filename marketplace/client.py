"""The Python client: what a provider or researcher does, signed by its own key on its own machine.

    home = Home.create(Path("basel"), "Basel hospital", "http://127.0.0.1:8448", log_key)
    provider = Provider(home)
    provider.enrol(code, ("provider",))
    asset = provider.list_asset(…)

Keys never leave their folder: the service gets signed statements. What the service says about the
log is believed only after `ledger.client` verified it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from federated.address import address_of, reach
from federated.code import code_digest
from federated.tasks import find_task
from ledger import durable
from ledger.client import LogClient
from ledger.encoding import b64encode, parse
from ledger.errors import LedgerError
from ledger.ids import statement_id
from ledger.keys import SigningKey, VerifyKey
from ledger.statements import (
    Agreement,
    Job,
    Measurement,
    Offer,
    Participant,
    Revocation,
    TaggedAsset,
    Valuation,
)
from ledger.statements.envelope import countersign, from_json
from ledger.statements.registry import read
from ledger.terms import Terms
from ledger.use_index import KEY_BYTES, commit
from marketplace import tag_keys
from marketplace.errors import MarketplaceError
from marketplace.gathering import gather
from marketplace.recompute import Opener, recompute
from marketplace.scoring import opened
from privacy.paillier import PartialDecryption, Quorum, SecretKey, ThresholdKey, is_shared
from privacy.secure_random import random_bytes

# A tenth of the price; what an operator asks beyond it is not signed by rule.
MOST_FEE_PPM = 100_000
ENDED = ("released", "refused", "failed", "cancelled")


class ClientError(MarketplaceError):
    """The service refused, or cannot be reached; `code` is its fixed word."""

    default_code = "client"


def now_ms() -> int:
    """Return this machine's time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Home:
    """One party's folder: keys (0600), API key (0600), and whom it trusts.

    Attributes:
        folder: the folder.
        name: the party's name.
        service: base address of the service.
        log_key: the log's verifier key, from elsewhere.
    """

    folder: Path
    name: str
    service: str
    log_key: VerifyKey

    @classmethod
    def create(cls, folder: Path, name: str, service: str, log_key: VerifyKey) -> Home:
        """Make a folder with a fresh signing key.

        Raises:
            ClientError: there is a party in it already.
        """
        if (folder / "party.json").exists():
            raise ClientError(f"{folder} is a party's home already")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        SigningKey.generate(_key_name(name)).save(folder / "signing.key")
        home = cls(folder, name, service, log_key)
        home._write({"name": name, "service": service, "log_key": log_key.text})
        return home

    @classmethod
    def resume(cls, folder: Path, name: str, service: str, log_key: VerifyKey) -> Home:
        """Make a folder, or go on with one whose enrolment did not succeed, under its own key.

        Raises:
            ClientError: a party in it has enrolled, or has another name.
        """
        if not (folder / "party.json").exists():
            return cls.create(folder, name, service, log_key)
        found = cls.load(folder)
        if found.api_key() is not None:
            raise ClientError(f"{folder}: {found.name} has enrolled already")
        if found.name != name:
            raise ClientError(f"{folder} is the home of {found.name}; choose another folder")
        home = cls(folder, name, service, log_key)
        home._write({"name": name, "service": service, "log_key": log_key.text})
        return home

    @classmethod
    def load(cls, folder: Path) -> Home:
        """Open a party's folder.

        Raises:
            ClientError: it is none.
        """
        try:
            value = json.loads((folder / "party.json").read_text())
            log_key = VerifyKey.from_text(value["log_key"])
            return cls(folder, value["name"], value["service"], log_key)
        except (OSError, ValueError, KeyError, LedgerError) as error:
            raise ClientError(f"{folder} is no party's home; make one with `enrol`") from error

    def address(self) -> str:
        """Return where the service can be reached.

        Raises:
            NodeError: the home belongs to a market that nobody serves now.
        """
        return address_of(self.folder, self.service)

    def signing_key(self) -> SigningKey:
        """Return the party's signing key."""
        return SigningKey.load(self.folder / "signing.key")

    def encryption_key(self) -> SecretKey:
        """Return the researcher's decryption key; made when it is first needed."""
        path = self.folder / "encryption.key"
        if not path.exists():
            SecretKey.generate().save(path)
        return SecretKey.load(path)

    def participant(self) -> str:
        """Return the party's participant id.

        Raises:
            ClientError: it is not enrolled.
        """
        found = self._read().get("participant")
        if not isinstance(found, str):
            raise ClientError(f"{self.name} is not enrolled yet")
        return found

    def api_key(self) -> str | None:
        """Return the API key, None before enrolment."""
        path = self.folder / "api.key"
        return path.read_text().strip() if path.exists() else None

    def remember_enrolment(self, participant: str, api_key: str) -> None:
        """Keep the participant id and then, whole, the API key (0600): whoever has one is enrolled.

        Raises:
            FileExistsError: there is a key already.
        """
        path = self.folder / "api.key"
        if path.exists():
            raise FileExistsError(path)
        self._write(self._read() | {"participant": participant})
        durable.replace(path, f"{api_key}\n".encode(), 0o600)

    def _read(self) -> dict[str, Any]:
        value = json.loads((self.folder / "party.json").read_text())
        return value if isinstance(value, dict) else {}

    def _write(self, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, indent=2, sort_keys=True) + "\n"
        durable.replace(self.folder / "party.json", text.encode())


class Client:
    """What every party can do.

    Args:
        home: the party's folder.
        http: a client with the service as base address; by default one over the network.
        clock: returns Unix milliseconds.
    """

    def __init__(
        self, home: Home, http: httpx.Client | None = None, clock: Callable[[], int] = now_ms
    ) -> None:
        self.home = home
        self.http = http or reach(home.folder, home.address())
        self.clock = clock
        key = home.api_key()
        if key is not None:
            self.http.headers["Authorization"] = f"Bearer {key}"
        self._log: LogClient | None = None
        self._roles: tuple[str, ...] | None = None

    def roles(self) -> tuple[str, ...]:
        """Return the roles that this party enrolled in; they never change."""
        if self._roles is None:
            self._roles = tuple(self.call("GET", "/me")["roles"])
        return self._roles

    @property
    def log(self) -> LogClient:
        """This party's own reader of the log."""
        if self._log is None:
            memory = self.home.folder / "checkpoint"
            self._log = LogClient(self.http, self.home.log_key, memory)
        return self._log

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the service and return its JSON.

        Raises:
            ClientError: it refused, or cannot be reached.
        """
        try:
            answer = self.http.request(method, f"/v1{path}", json=body)
        except httpx.HTTPError as error:
            raise ClientError(f"{self.http.base_url} cannot be reached: {error}") from error
        if answer.is_error:
            raise problem_of(answer)
        return answer.json() if answer.content else None

    def submit(self, path: str, envelope: bytes) -> dict[str, Any]:
        """Hand in a signed statement and return what the service says of it."""
        found = self.call("POST", path, {"statement": parse(envelope)})
        return found if isinstance(found, dict) else {}

    def enrol(self, code: str, roles: Sequence[str], recovery_key: VerifyKey | None = None) -> str:
        """Enrol with a one-time code and return the participant's id."""
        key = self.home.signing_key()
        statement = Participant(
            name=self.home.name,
            roles=tuple(roles),
            key=key.verify_key.text,
            recovery_key=None if recovery_key is None else recovery_key.text,
            issued=self.clock(),
        )
        body = {"code": code, "statement": parse(statement.sign(key))}
        found = self.call("POST", "/participants", body)
        self.home.remember_enrolment(found["participant"], found["api_key"])
        self.http.headers["Authorization"] = f"Bearer {found['api_key']}"
        return str(found["participant"])

    def revoke(self, target: str, cause: str) -> int:
        """End something of one's own; return the log index from which on it is void."""
        statement = Revocation(self.home.participant(), target, cause, self.clock())
        found = self.submit("/revocations", statement.sign(self.home.signing_key()))
        return int(found["index"])


class Provider(Client):
    """Lists assets, offers them and signs agreements."""

    def list_asset(
        self,
        *,
        name: str,
        description: str,
        use_rights: str,
        node_key: str,
        measurement: Mapping[str, Any],
        cost_cents: int,
    ) -> str:
        """Sign a data card around the node's measurement and list it; return the asset's id.

        Raises:
            StatementError, SignatureError: the measurement is not the node's.
            ClientError: the service refused.
        """
        tag_key = random_bytes(KEY_BYTES)
        draft = TaggedAsset(
            provider=self.home.participant(),
            name=name,
            description=description,
            use_rights=use_rights,
            node_key=node_key,
            measurement=dict(measurement),
            valuation=Valuation.of(cost_cents, 0),
            issued=self.clock(),
            tag_commitment=commit(tag_key),
        )
        measured: Measurement = draft.measured()
        value = Valuation.of(cost_cents, measured.quality.score_ppm)
        envelope = replace(draft, valuation=value).sign(self.home.signing_key())
        # Kept before it is used: an asset whose key is lost cannot show that it was not used.
        tag_keys.keep(self.home.folder, statement_id(draft.kind, envelope), tag_key)
        body = {"statement": parse(envelope), "tag_key": b64encode(tag_key)}
        return str(self.call("POST", "/assets", body)["id"])

    def offer(self, asset: str, terms: Terms, price_cents: int) -> str:
        """Offer an asset under terms, at a price for each use; return the offer's id."""
        statement = Offer(self.home.participant(), asset, terms, price_cents, self.clock())
        return str(self.submit("/offers", statement.sign(self.home.signing_key()))["id"])

    def agree(self, negotiation: Mapping[str, Any]) -> None:
        """Sign the agreement on what is on the table now."""
        statement = Agreement(
            provider=self.home.participant(),
            researcher=negotiation["researcher"],
            asset=negotiation["asset"],
            offer=negotiation["offer"],
            terms=Terms.from_payload(negotiation["terms"]),
            preparation=negotiation["preparation"],
            price_cents=negotiation["price_cents"],
            fee_ppm=negotiation["fee_ppm"],
            issued=self.clock(),
        )
        path = f"/negotiations/{negotiation['id']}/agreement"
        self.submit(path, statement.sign(self.home.signing_key()))

    def agree_by_rule(self, most_fee_ppm: int = MOST_FEE_PPM) -> int:
        """Sign every request that asks for exactly what was offered; return how many.

        Args:
            most_fee_ppm: largest part of the price that the operator may keep; the offer names no
                fee, so a greater one waits for its owner.
        """
        own, states = self.home.participant(), ("REQUESTED", "ACCEPTED")
        asked = [
            each
            for each in self.call("GET", "/negotiations")
            if each["state"] in states and each["provider"] == own
        ]
        if not asked:
            return 0
        offers = {offer["id"]: offer for offer in self.call("GET", "/offers")}
        signed = 0
        for negotiation in asked:
            offer = offers.get(negotiation["offer"])
            # What was withdrawn meanwhile is for its owner to decide.
            if offer is None or offer["revoked"] is not None:
                continue
            same = negotiation["terms"] == offer["terms"]
            same = same and negotiation["fee_ppm"] <= most_fee_ppm
            if same and negotiation["price_cents"] >= offer["price_cents"]:
                self.agree(negotiation)
                signed += 1
        return signed


class Researcher(Client):
    """Negotiates, asks for jobs, and checks what it gets."""

    def negotiate(self, offer: Mapping[str, Any], preparation: Mapping[str, Any]) -> str:
        """Ask for an agreement on an offer as it stands; return the negotiation's id."""
        body = {
            "offer": offer["id"],
            "terms": offer["terms"],
            "preparation": dict(preparation),
            "price_cents": offer["price_cents"],
        }
        return str(self.call("POST", "/negotiations", body)["id"])

    def countersign(self, negotiation_id: str) -> str:
        """Check the agreement that the provider signed, sign it too, and return its id.

        Raises:
            ClientError: it is not what was negotiated, or nothing was signed yet.
        """
        view = self.call("GET", f"/negotiations/{negotiation_id}")
        if view["proposal"] is None:
            raise ClientError(f"the provider has not signed yet (state {view['state']})")
        envelope = from_json(view["proposal"])
        proposed = read(envelope).statement
        same = (
            *("terms", "preparation", "price_cents", "fee_ppm"),
            *("offer", "asset", "researcher", "provider"),
        )
        payload = proposed.payload()
        if not isinstance(proposed, Agreement) or any(payload[k] != view[k] for k in same):
            raise ClientError("the provider signed something else than what was negotiated")
        signed = countersign(envelope, self.home.signing_key())
        found = self.submit(f"/negotiations/{negotiation_id}/verification", signed)
        return str(found["agreement"])

    def submit_job(
        self,
        *,
        name: str,
        task: str,
        parameters: Mapping[str, Any],
        preparation: Mapping[str, Any],
        purpose: str,
        agreements: Mapping[str, str],
        shared_key: ThresholdKey | None = None,
    ) -> str:
        """Sign a job and hand it in; return its id.

        Args:
            name: for people.
            task: name of the computation.
            parameters: of the task.
            preparation: as the agreements fix it.
            purpose: one of those that the agreements permit.
            agreements: asset id to agreement id.
            shared_key: for an encrypted task, in place of one's own: then no single party opens
                the result.

        Raises:
            TaskError: an unknown task, or parameters that it does not have.
            ClientError: the service refused.
        """
        known = find_task(task)
        key = self._key(shared_key) if known.encrypted else None
        statement = Job(
            researcher=self.home.participant(),
            name=name,
            task=known.name,
            task_version=known.version,
            code_digest=code_digest(known.name, known.version),
            parameters=known.parse_parameters(parameters),
            preparation=dict(preparation),
            purpose=purpose,
            assets=tuple(agreements),
            agreements=tuple(agreements.values()),
            encryption_key=key,
            nonce=random_bytes(16).hex(),
            issued=self.clock(),
        )
        return str(self.submit("/jobs", statement.sign(self.home.signing_key()))["job"])

    def _key(self, shared_key: ThresholdKey | None) -> dict[str, Any]:
        if shared_key is not None:
            return shared_key.to_json()
        return dict(self.home.encryption_key().public.to_json())

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job's state, progress and parties."""
        found = self.call("GET", f"/jobs/{job_id}")
        return found if isinstance(found, dict) else {}

    def result(self, job_id: str, partials: Sequence[PartialDecryption] = ()) -> dict[str, Any]:
        """Return a job's result after adding up the receipted contributions oneself.

        Args:
            job_id: id of the job.
            partials: what holders made of it, for a job under a key that they share.

        Raises:
            ResultError: the result is not theirs.
            PartialDecryptionError: too few holders, or one twice.
            ScoresError: scores that this party's key does not open.
            ClientError: there is none yet.
        """
        released, evidence = gather(self.call, self.log, job_id)
        verified = recompute(evidence, released, self._opener(evidence.job, partials))
        return opened(self.home.folder, evidence.job, verified)

    def _opener(self, job: Job, partials: Sequence[PartialDecryption]) -> Opener | None:
        if job.encryption_key is None:
            return None
        if is_shared(job.encryption_key):
            return Quorum(ThresholdKey.from_json(job.encryption_key), tuple(partials))
        return self.home.encryption_key()


def problem_of(answer: httpx.Response) -> ClientError:
    """Return what the service says of a request that it refused."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict) or "detail" not in body:
        return ClientError(f"the service answered {answer.status_code}")
    return ClientError(str(body["detail"]), code=str(body.get("code", "client")))


def _key_name(name: str) -> str:
    """Return a name as a key may carry it: no blanks and no plus sign."""
    return "-".join(name.replace("+", " ").split()) or "party"


def slug(name: str) -> str:
    """Return a name as a folder may carry it."""
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") or "party"
