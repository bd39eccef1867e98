"""What a provider signs without being asked."""

from pathlib import Path

import pytest

from ledger.terms import Terms
from marketplace.client import MOST_FEE_PPM, Provider, Researcher
from marketplace.embedded import Embedded
from marketplace.settings import Settings

TERMS = Terms(("statistics",), ("research",), ("*",), 1, 4_000_000_000_000, True, 2)  # noqa: FBT003


@pytest.mark.parametrize(
    ("fee_ppm", "state"), [(MOST_FEE_PPM, "AGREED"), (MOST_FEE_PPM + 1, "REQUESTED")]
)
def test_a_fee_beyond_the_rule_waits_for_its_owner(tmp_path: Path, fee_ppm: int, state: str):
    (tmp_path / "rows.csv").write_text("age\n40\n50\n")
    settings = Settings(folder=tmp_path / "market" / "service", fee_ppm=fee_ppm)
    with Embedded(tmp_path / "market", settings) as market:
        researcher = Researcher(market.enrol("Lab", "researcher"), market.http())
        provider = Provider(market.enrol("North", "provider"), market.http())
        asset = market.add_node(provider.home, tmp_path / "rows.csv", {"header": True}).asset
        provider.offer(asset, TERMS, 100)
        (offer,) = researcher.call("GET", f"/offers?asset={asset}")
        negotiation = researcher.negotiate(offer, {})
        assert provider.agree_by_rule() == (state == "AGREED")
        assert researcher.call("GET", f"/negotiations/{negotiation}")["state"] == state
