"""The marketplace as a node reaches it: a few calls over HTTP, outward only."""

from __future__ import annotations

from typing import Protocol

import httpx

from federated.errors import InputError, NodeError, NotTakenError, TooEarlyError
from federated.scoring_limits import MOST_INPUT_BYTES
from ledger.encoding import parse

PATHS = {"grant": "/v1/grants", "receipt": "/v1/receipts", "epoch": "/v1/closes"}
ENDED = frozenset({"released", "refused", "failed", "cancelled"})
# What the marketplace says of the statement itself, not of the moment.
_FOR_GOOD = frozenset({404, 409, 422})
# Its code for what was signed later than the log's time: that passes.
_TOO_EARLY = "backdated"


class Service(Protocol):
    """What a node needs of the marketplace besides the log; HTTP in both ways to run."""

    def requests(self, asset: str) -> list[str]:
        """Return ids of jobs that wait for this asset's decision."""

    def submit(self, kind: str, envelope: bytes) -> None:
        """Hand in a signed statement and wait until it is logged."""

    def has_ended(self, job: str) -> bool:
        """Say whether the marketplace goes on with a job no more."""

    def fetch(self, job: str, digest: str) -> bytes:
        """Return what the researcher handed in for a job under a digest; not verified."""


class HttpService:
    """Asks for waiting jobs and hands in grants, receipts and closes.

    Args:
        http: client whose base address is the marketplace; it carries the provider's API key.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def requests(self, asset: str) -> list[str]:
        """Return ids of jobs that wait for this asset's decision, oldest first.

        Raises:
            NodeError: the marketplace did not answer as it should.
        """
        found = self._call("GET", "/v1/nodes/requests")
        if not isinstance(found, list):
            raise NodeError("the marketplace sent no list of requests")
        return [str(item["job"]) for item in found if item.get("asset") == asset]

    def submit(self, kind: str, envelope: bytes) -> None:
        """Hand in a signed grant, receipt or close and wait until it is logged.

        Raises:
            NotTakenError: the marketplace refuses it; names its own word for why.
            TooEarlyError: this node's clock, or the log's, is wrong; later it may be taken.
            NodeError: it cannot be reached, or cannot take anything now.
        """
        self._call("POST", PATHS[kind], {"statement": parse(envelope)})

    def has_ended(self, job: str) -> bool:
        """Say whether the marketplace goes on with a job no more.

        Believed only as far as ending the job here: that computes nothing.

        Raises:
            NodeError: the marketplace did not answer as it should.
        """
        found = self._call("GET", f"/v1/jobs/{job}")
        return isinstance(found, dict) and found.get("state") in ENDED

    def fetch(self, job: str, digest: str) -> bytes:
        """Return what the researcher handed in for a job under a digest; not verified.

        Raises:
            InputError: `no_input`: the marketplace does not have it, cannot be reached, or sends
                more than an input may have; no more than that is read.
        """
        path, data = f"/v1/jobs/{job}/inputs/{digest}", bytearray()
        try:
            with self._http.stream("GET", path) as answer:
                if answer.is_error:
                    raise InputError("no_input", f"{path}: {answer.status_code}")
                for chunk in answer.iter_bytes():
                    data += chunk
                    if len(data) > MOST_INPUT_BYTES:
                        raise InputError("no_input", f"{path}: more than {MOST_INPUT_BYTES} bytes")
        except httpx.HTTPError as error:
            raise InputError("no_input", f"{path}: cannot be fetched: {error}") from error
        return bytes(data)

    def _call(self, method: str, path: str, body: object = None) -> object:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise NodeError(f"{path}: the marketplace cannot be reached: {error}") from error
        if answer.is_error:
            raise _refusal(answer)(f"{path}: {answer.status_code} {_word(answer)}")
        return answer.json()


def _refusal(answer: httpx.Response) -> type[NodeError]:
    if _problem(answer).get("code") == _TOO_EARLY:
        return TooEarlyError
    return NotTakenError if answer.status_code in _FOR_GOOD else NodeError


def _word(answer: httpx.Response) -> str:
    body = _problem(answer)
    return str(body.get("detail") or body.get("code") or "without a reason")


def _problem(answer: httpx.Response) -> dict[str, object]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
