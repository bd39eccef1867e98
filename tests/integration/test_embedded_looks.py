"""An embedded market that looks for work: what breaks at one node keeps no other waiting."""

import logging
import time
from pathlib import Path
from typing import NoReturn

import pytest

from marketplace import embedded
from tests.stage import open_stage
from tests.talk import TABLES


def test_a_defect_at_one_node_is_logged_once_and_the_others_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Guards: the thread that looks ended with it, and every later job waited for ever."""
    monkeypatch.setattr(embedded, "LOOK_INTERVAL", 0.01)
    looks = []

    def broken(*_: object) -> NoReturn:
        looks.append(time.monotonic())
        raise RuntimeError("a defect")

    with open_stage(tmp_path, TABLES) as play:
        first, *others = (seat.asset for seat in play.seats)
        monkeypatch.setattr(play.nodes[0], "decide_by_rule", broken)
        job = play.job()
        with caplog.at_level(logging.WARNING, "marketplace.embedded"):
            play.market.start_looking()
            end, states = time.monotonic() + 30.0, dict[str, str]()
            while time.monotonic() < end and (
                len(looks) < 3 or {states.get(name) for name in others} != {"granted"}
            ):
                view = play.researcher.call("GET", f"/jobs/{job}")
                states = {each["asset"]: each["state"] for each in view["parties"]}
        assert states == {first: "waiting", **dict.fromkeys(others, "granted")}
    assert [each.getMessage() for each in caplog.records if each.exc_info] == [
        f"{first}: met an unexpected error"
    ]
