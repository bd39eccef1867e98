"""Keys are replaced in a running market: what was signed stays valid, a thief's key is useless."""

import stat
from pathlib import Path
from unittest.mock import patch

import pytest

from ledger.export import export
from ledger.keys import SigningKey
from ledger.statements import Offer
from ledger.verify import SOUND, verify
from marketplace.client import Client, ClientError, Home, Provider
from marketplace.embedded import Embedded
from marketplace.key_change import change_key, change_node_key
from tests.stage import Play, open_stage, terms

TABLES = dict.fromkeys(("North", "South"), "chol\n200\n250\n180\n300\n210\n190\n")


@pytest.fixture
def play(tmp_path: Path):
    with open_stage(tmp_path, TABLES) as play:
        yield play


def log_of(play: Play):
    return play.market.app.state.context.log


def is_sound(play: Play, folder: Path) -> bool:
    log = log_of(play)
    key = play.market.app.state.context.log._key
    export(log, key, folder, opened=range(log.size), scope="everything", now=play.clock())
    return verify(folder, log.vkey).status == SOUND


def test_a_party_goes_on_with_its_new_key(play: Play, tmp_path: Path):
    play.run("statistics", columns=["chol"])
    seat = play.seats[0]
    old = seat.home.signing_key()
    new = change_key(seat.client)
    assert seat.home.signing_key().verify_key == new.verify_key != old.verify_key
    assert stat.S_IMODE((seat.home.folder / "signing.key").stat().st_mode) == 0o600
    assert not (seat.home.folder / "signing.key.new").exists()
    # With the new key it offers; with the old one nothing is taken.
    assert seat.client.offer(seat.asset, terms(), 1000)
    offer = Offer(seat.home.participant(), seat.asset, terms(), 2000, play.clock())
    with pytest.raises(ClientError, match="sign"):
        seat.client.submit("/offers", offer.sign(old))
    assert is_sound(play, tmp_path / "export")


def test_everyone_is_shown_the_new_key(play: Play):
    seat = play.seats[0]
    new = change_key(seat.client)
    shown = play.researcher.call("GET", f"/participants/{seat.home.participant()}")
    assert shown["fingerprint"] == new.verify_key.fingerprint


def test_a_node_computes_with_its_new_key_and_its_peers_believe_it(play: Play, tmp_path: Path):
    seat = play.seats[0]
    folder = seat.node._log._memory.parent
    change_node_key(seat.client, folder, seat.asset)
    play.reopened(0)
    job = play.run("statistics", columns=["chol"])
    assert play.researcher.result(job)
    assert is_sound(play, tmp_path / "export")


def test_a_node_that_goes_on_with_its_old_key_is_not_believed(play: Play):
    seat = play.seats[0]
    change_node_key(seat.client, seat.node._log._memory.parent, seat.asset)
    job = play.job("statistics", parameters={"columns": ["chol"]})
    play.market.decide()
    assert play.stage.wait(job)["state"] != "released"


def test_a_provider_gives_a_node_whose_key_is_lost_a_new_one(play: Play):
    seat = play.seats[0]
    folder = seat.node._log._memory.parent
    (folder / "node.key").unlink()
    new = change_node_key(seat.client, folder, seat.asset, lost=True)
    assert log_of(play).history.node_key(seat.asset) == new.verify_key


def test_nobody_changes_anothers_key(play: Play):
    one, other = play.seats
    with pytest.raises(ClientError):
        change_node_key(other.client, one.node._log._memory.parent, one.asset)
    with pytest.raises(ClientError):
        change_node_key(other.client, one.node._log._memory.parent, one.asset, lost=True)


@pytest.mark.parametrize("step", ["before the log", "after the log"])
def test_a_crash_loses_neither_key(play: Play, step: str):
    seat = play.seats[0]
    old = seat.home.signing_key()
    broken = (
        patch.object(Client, "submit", side_effect=OSError("power cut"))
        if step == "before the log"
        else patch("marketplace.key_change.take_over", side_effect=OSError("power cut"))
    )
    with broken, pytest.raises(OSError, match="power cut"):
        change_key(seat.client)
    assert seat.home.signing_key().verify_key == old.verify_key
    waiting = SigningKey.load(seat.home.folder / "signing.key.new")
    assert change_key(seat.client).verify_key == waiting.verify_key
    assert seat.home.signing_key().verify_key == waiting.verify_key
    rotations = [e for e in log_of(play).history.entries if e.kind == "rotation"]
    assert len(rotations) == 1


def enrolled(market: Embedded, folder: Path, recovery: SigningKey) -> Provider:
    operator = market.http()
    operator.headers["Authorization"] = (
        f"Bearer {market.app.state.context.settings.operator_api_key.read_text().strip()}"
    )
    answer = operator.post("/v1/enrolments", json={"roles": ["provider"], "note": ""})
    home = Home.create(folder, "Careful", "http://market", market.log_key)
    provider = Provider(home, market.http(), market.app.state.context.clock)
    provider.enrol(answer.json()["code"], ("provider",), recovery.verify_key)
    return provider


def test_a_recovery_key_takes_over_from_a_thief(play: Play, tmp_path: Path):
    recovery = SigningKey.generate("Careful")
    provider = enrolled(play.market, tmp_path / "careful", recovery)
    stolen = provider.home.signing_key()
    thief = change_key(provider)
    with pytest.raises(ClientError):
        change_key(provider, recovery=stolen)
    (provider.home.folder / "signing.key.new").unlink()
    renewed = SigningKey.generate("Careful")
    mine = change_key(provider, recovery=recovery, new_recovery=renewed.verify_key)
    assert mine.verify_key != thief.verify_key
    with pytest.raises(ClientError):
        change_key(provider, recovery=recovery)
    assert change_key(provider, recovery=renewed)
    assert is_sound(play, tmp_path / "export")


def test_without_a_recovery_key_none_helps(play: Play):
    seat = play.seats[0]
    with pytest.raises(ClientError, match="recovery key"):
        change_key(seat.client, recovery=SigningKey.generate("anybody"))
    with pytest.raises(ClientError, match="present recovery key alone"):
        change_key(seat.client, new_recovery=SigningKey.generate("anybody").verify_key)
