"""The public log, and openings by scope."""

import json

import pytest

from ledger import checkpoint, merkle
from ledger.encoding import b64decode
from ledger.entry import Entry, Opening
from ledger.history import History
from ledger.keys import VerifyKey
from ledger.rules import admit
from ledger.statements import Asset
from tests.market import Market, Party

KINDS_OF_ALL = {"participant", "asset", "offer"}


def entries(market: Market) -> list[bytes]:
    data, found = market.get(f"/log/tile/entries/000.p/{market.context.log.size}").content, []
    while data:
        length = int.from_bytes(data[:2], "big")
        found.append(data[2 : 2 + length])
        data = data[2 + length :]
    return found


def openings(market: Market, caller: Party, query: str = "") -> list[Opening]:
    found = market.must(market.get(f"/log/openings{query}", caller), 200)["openings"]
    return [
        Opening(item["index"], b64decode(item["salt"]), b64decode(item["envelope"]))
        for item in found
    ]


def test_a_stranger_can_check_the_whole_log(market: Market):
    market.released_job()
    key = VerifyKey.from_text(market.get("/log/vkey").text.strip())
    signed = checkpoint.open_checkpoint(market.get("/log/checkpoint").content, key)
    leaves = entries(market)
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    assert (len(leaves), merkle.root(hashes)) == (signed.size, signed.root)
    opened = {opening.index: opening for opening in openings(market, market.auditor)}
    assert sorted(opened) == list(range(len(leaves)))
    history = History()
    for leaf, leaf_hash in zip(leaves, hashes, strict=True):
        entry = Entry.from_bytes(leaf)
        assert admit(history, entry, leaf_hash, opened[entry.index].reveal(entry))
    assert history.checked["release"] == history.checked["settlement"] == 1


def test_what_is_not_public_is_not_in_the_public_log(market: Market):
    market.released_job(purpose="research")
    public = b"".join(entries(market)) + market.get("/log/checkpoint").content
    for word in (b"research", b"hospital1", b"first look", b"statistics"):
        assert word not in public


def test_openings_are_shown_to_parties_and_overseers(market: Market):
    first, second, third = market.providers
    job = market.submit()
    market.must(market.post("/grants", first, market.grant_statement(first, job)))
    kinds = {
        party.name: {opening.envelope for opening in openings(market, party)}
        for party in (first, second, market.researcher, market.auditor)
    }
    assert kinds[market.auditor.name] > kinds[first.name]
    agreement = market.context.entry(first.agreement)
    for party, sees in ((first, True), (second, False), (market.researcher, True)):
        answer = market.get(f"/log/statements/{agreement.id}", party)
        assert answer.status_code == (200 if sees else 404)
        indexes = {opening.index for opening in openings(market, party)}
        assert (agreement.index in indexes) == sees
    for party in (first, second, third, market.researcher, market.operator):
        found = market.must(market.get(f"/log/statements/{job}", party), 200)
        assert found["index"] == market.context.entry(job).index == found["opening"]["index"]
    assert market.context.find(first.asset, Asset).provider == first.id


def test_pages_end_and_go_on(market: Market):
    size = market.context.log.size
    first = market.must(market.get("/log/openings?start=0&end=2", market.auditor), 200)
    assert ([item["index"] for item in first["openings"]], first["next"]) == ([0, 1], None)
    past = market.must(market.get(f"/log/openings?start={size}", market.auditor), 200)
    assert past == {"openings": [], "next": None}


def test_a_page_looks_at_256_entries(market: Market, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("marketplace.log_routes.PAGE", 4)
    seen, start = [], 0
    while start is not None:
        page = market.must(market.get(f"/log/openings?start={start}", market.auditor), 200)
        assert len(page["openings"]) <= 4
        seen += [item["index"] for item in page["openings"]]
        start = page["next"]
    assert seen == list(range(market.context.log.size))


@pytest.mark.parametrize(
    "query", ["?start=-1", "?start=x", "?end=99999999999999999999", "?start=1.5"]
)
def test_indexes_are_bounded(market: Market, query: str):
    answer = market.get(f"/log/openings{query}", market.auditor)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    "path",
    [
        "0/001",
        "entries/000",
        "0/000.p/300",
        "9/000",
        "0/../checkpoint",
        "..%2f..%2fkeys",
        "",
        "0/000.p/0",
    ],
)
def test_a_tile_that_is_none_is_not_found(market: Market, path: str):
    answer = market.get(f"/log/tile/{path}")
    assert answer.status_code == 404
    assert "PRIVATE" not in answer.text


def test_an_answer_with_an_index_is_covered_by_the_checkpoint(market: Market):
    first = market.providers[0]
    found = market.must(market.post("/offers", first, market.offer_statement(first, price_cents=1)))
    size = int(market.get("/log/checkpoint").text.splitlines()[1])
    assert found["index"] < size
    assert json.loads(market.get("/health").text)["log_size"] >= size
