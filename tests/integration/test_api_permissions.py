"""Every route: who may call it, and everybody else refused; nothing changes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marketplace.app import create_app
from marketplace.settings import Settings
from tests.market import Market, Party

Keys = tuple[Market, dict[str, Party | str | None]]
ROLES = ("provider", "researcher", "auditor", "operator")
ANY = (*ROLES, "node")
OVERSEEN = ANY
ZERO = "0" * 64

# (method, path, body) and the scopes that may pass; whatever passes meets an empty body or an
# unknown id behind the door, so the answer is neither 401 nor 403.
ROUTES: dict[tuple[str, str], tuple[str, ...]] = {
    ("POST", "/enrolments"): ("operator",),
    ("GET", "/participants"): ANY,
    ("GET", f"/participants/participant:{ZERO}"): ANY,
    ("GET", "/me"): ANY,
    ("POST", "/keys"): ANY,
    ("DELETE", "/keys/0000"): ANY,
    ("POST", "/assets"): ("provider",),
    ("POST", "/offers"): ("provider",),
    ("POST", "/negotiations"): ("researcher",),
    ("POST", f"/negotiations/negotiation:{ZERO}/offer"): ("provider",),
    ("POST", f"/negotiations/negotiation:{ZERO}/request"): ("researcher",),
    ("POST", f"/negotiations/negotiation:{ZERO}/accept"): ("researcher",),
    ("POST", f"/negotiations/negotiation:{ZERO}/agreement"): ("provider",),
    ("POST", f"/negotiations/negotiation:{ZERO}/verification"): ("researcher",),
    ("POST", f"/negotiations/negotiation:{ZERO}/finalize"): ("provider",),
    ("POST", f"/negotiations/negotiation:{ZERO}/terminate"): ("provider", "researcher"),
    ("GET", "/negotiations"): ("provider", "researcher"),
    ("GET", f"/negotiations/negotiation:{ZERO}"): ("provider", "researcher"),
    ("GET", "/agreements"): ("provider", "researcher"),
    ("GET", f"/agreements/agreement:{ZERO}"): ("provider", "researcher"),
    ("POST", "/inputs"): ("researcher",),
    ("POST", "/jobs"): ("researcher",),
    ("GET", "/jobs"): OVERSEEN,
    ("GET", f"/jobs/job:{ZERO}"): OVERSEEN,
    ("GET", f"/jobs/job:{ZERO}/events"): OVERSEEN,
    ("POST", f"/jobs/job:{ZERO}/cancel"): ("researcher",),
    ("GET", f"/jobs/job:{ZERO}/result"): ("provider", "researcher"),
    ("GET", f"/jobs/job:{ZERO}/contributions"): ("provider", "researcher"),
    ("GET", f"/jobs/job:{ZERO}/inputs/sha256:{ZERO}"): ("node", "provider"),
    ("GET", f"/jobs/job:{ZERO}/openings"): ("provider", "researcher"),
    ("GET", "/nodes/requests"): ("node", "provider"),
    ("GET", "/nodes"): OVERSEEN,
    ("POST", "/nodes/heartbeats"): ("node",),
    ("POST", f"/assets/asset:{ZERO}/codes"): ("provider",),
    ("POST", "/grants"): ("node", "provider"),
    ("POST", "/receipts"): ("node", "provider"),
    ("POST", "/closes"): ("node", "provider"),
    ("POST", "/schedule"): ("operator",),
    ("POST", "/rotations"): ANY,
    ("POST", "/revocations"): ("provider", "researcher", "operator"),
    ("GET", f"/assets/asset:{ZERO}/uses"): OVERSEEN,
    ("GET", "/settlements"): OVERSEEN,
    ("GET", "/accounts"): OVERSEEN,
    ("GET", "/log/openings"): ANY,
    ("GET", f"/log/statements/job:{ZERO}"): ANY,
}
PUBLIC = {
    ("GET", "/health"),
    ("GET", "/tasks"),
    ("GET", "/assets"),
    ("GET", "/assets/{asset_id}"),
    ("GET", "/offers"),
    ("GET", "/log/checkpoint"),
    ("GET", "/log/vkey"),
    ("GET", "/log/successions"),
    ("GET", "/log/tile/{path}"),
    ("POST", "/participants"),
    ("POST", "/nodes"),
}


def declared(settings: Settings) -> set[tuple[str, str]]:
    paths: dict[str, Any] = create_app(settings).openapi()["paths"]
    return {
        (method.upper(), path.removeprefix("/v1"))
        for path, methods in paths.items()
        for method in methods
    }


def test_no_route_is_left_out(tmp_path: Path):
    def shape(path: str) -> str:
        parts = path.split("/")
        return "/".join("*" if ":" in p or "{" in p or p == "0000" else p for p in parts)

    known = {(method, shape(path)) for method, path in [*ROUTES, *PUBLIC]}
    found = {(method, shape(path)) for method, path in declared(Settings(folder=tmp_path))}
    assert found == known


def test_every_route_has_a_summary_and_names_its_refusals(tmp_path: Path):
    document = create_app(Settings(folder=tmp_path)).openapi()
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"][0].isupper()
            assert operation["description"]
            assert {"401", "403", "409", "422"} <= set(operation["responses"])


@pytest.fixture(scope="module", name="keys")
def _keys(populated_market: Market, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    """A running market and an API key for each scope alone, one for none, one for nobody."""
    folder = tmp_path_factory.mktemp("permissions") / "data"
    with populated_market.copy_to(folder) as market:
        people = {
            "provider": market.providers[0],
            "node": market.providers[0],
            "researcher": market.researcher,
            "auditor": market.auditor,
            "operator": market.operator,
        }
        keys: dict[str, Party | str | None] = {
            scope: market.must(market.post("/keys", person, {"scopes": [scope]}))["api_key"]
            for scope, person in people.items()
        }
        empty = market.must(market.post("/keys", market.researcher, {"scopes": []}))["api_key"]
        yield market, keys | {"no scope": empty, "no key": None}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_opens_to_its_scopes_alone(keys: Keys, method: str, path: str):
    market, callers = keys
    allowed = ROUTES[method, path]
    before = {name: rows for name, rows in market.counts().items() if name != "api_key"}
    for name, key in callers.items():
        answer = market.http.request(
            method, f"/v1{path}", headers=market.headers(key), json={} if method == "POST" else None
        )
        if name == "no key":
            assert answer.status_code == 401, name
        elif name in allowed:
            assert answer.status_code not in (401, 403, 500), (name, answer.text)
        else:
            assert answer.status_code == 403, (name, answer.text)
        if answer.is_error:
            assert answer.headers["content-type"] == "application/problem+json"
            assert set(answer.json()) == {"title", "detail", "code"}
    assert {name: rows for name, rows in market.counts().items() if name != "api_key"} == before


def test_what_is_public_needs_no_key(keys: Keys):
    market, _ = keys
    asset = market.providers[0].asset
    for path in ("/health", "/tasks", "/assets", f"/assets/{asset}", "/offers", "/log/checkpoint"):
        assert market.get(path).status_code == 200, path
