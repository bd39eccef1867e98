"""An encrypted sum whose key nobody holds: two of three holders open it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from federated import server_app
from federated.messages import Contribution, read_reply
from federated.preparation import Preparation
from ledger.encoding import b64decode, b64encode, canonical
from ledger.statements import Job
from marketplace import key_holder
from marketplace.client import ClientError, Researcher
from marketplace.jobs.tables import JobKeyHolder, Result
from marketplace.key_holder import HolderError, KeyHolder, read_partial, write_partial
from marketplace.recompute import ResultError
from privacy.errors import PartialDecryptionError
from privacy.paillier import (
    KeyShare,
    PartialDecryption,
    Quorum,
    ciphertexts_from_bytes,
    decrypt_partially,
)
from privacy.paillier.cipher import decrypt
from privacy.paillier.threshold import combine
from tests.dealt import fixed_secret, share_fixed
from tests.searcher import Searcher, folder_bytes
from tests.stage import Play, open_stage, terms

BIG = 2**40 + 12345
TABLES = {
    name: "\n".join(["small,big", *(f"{at},{BIG + at}" for at in range(rows)), ""])
    for name, rows in (("basel", 9), ("bern", 7), ("geneva", 8))
}
SUMS = {
    "small": sum(sum(range(rows)) for rows in (9, 7, 8)),
    "big": sum(BIG * rows + sum(range(rows)) for rows in (9, 7, 8)),
}
COLUMNS = ["small", "big"]


@dataclass(frozen=True)
class Shared:
    """A stage, three holders with their shares, and a job under their key that was released."""

    play: Play
    holders: tuple[KeyHolder, ...]
    shares: tuple[KeyShare, ...]
    job: str

    def partials(self, job: str, *at: int) -> list[PartialDecryption]:
        return [self.holders[each].decrypt(job, self.shares[each]) for each in at]

    def run(self) -> str:
        """Let another job under the same key run to its release; return its id."""
        key = self.shares[0].key.to_json()
        job = self.play.job("encrypted_sum", parameters={"columns": COLUMNS}, encryption_key=key)
        self.play.market.decide()
        view = self.play.stage.wait(job)
        assert view["state"] == "released", view
        return job

    def ciphertexts(self, job: str) -> list[int]:
        """Read what the service hands out, as a holder that checks nothing would."""
        document = self.holders[0].call("GET", f"/jobs/{job}/result")
        data = b"".join(b64decode(each) for each in document["ciphertexts"])
        return ciphertexts_from_bytes(self.shares[0].key.public, data)


@pytest.fixture(scope="module", name="shared")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with open_stage(tmp_path_factory.mktemp("stage"), TABLES, agreed=terms(uses=99)) as play:
        homes = [play.market.enrol(name, "provider") for name in ("Alba", "Bruno", "Carla")]
        holders = tuple(KeyHolder(home, play.market.http(), play.clock) for home in homes)
        shares = share_fixed([home.participant() for home in homes])
        shared = Shared(play, holders, shares, "")
        yield replace(shared, job=shared.run())


@pytest.mark.parametrize("two", [(0, 1), (2, 1)])
def test_any_two_holders_open_the_sum_for_the_buyer(shared: Shared, two: tuple[int, int]):
    partials = shared.partials(shared.job, *two)
    assert shared.play.researcher.result(shared.job, partials) == {"sums": SUMS}


def test_no_single_holder_opens_it_nor_the_buyer_alone(shared: Shared):
    buyer = shared.play.researcher
    for partials in ([], shared.partials(shared.job, 0)):
        with pytest.raises(PartialDecryptionError, match="of the 2"):
            buyer.result(shared.job, partials)
    # Nor does a key of the buyer's own: the job was never signed with it.
    assert buyer.log.history.get(shared.job, Job).encryption_key != (
        buyer.home.encryption_key().public.to_json()
    )


@pytest.mark.slow
def test_the_operator_holds_no_share_and_no_sum(shared: Shared):
    play = shared.play
    held = [data for _, _, data in play.crossed] + [data for _, data in play.spoken]
    held += folder_bytes(play.market.folder / "service")
    searcher = Searcher()
    searcher.seek_integer(SUMS["big"])
    for share in shared.shares:
        searcher._add(f"{share.raw_share():x}".encode(), "a share")
    assert searcher.found(held) == set()
    # The twin: what the statement of the job shows to its parties is found.
    searcher._add(f"{shared.shares[0].key.base:x}".encode(), "the base")
    assert searcher.found(held) == {"the base"}


def test_one_holder_twice_is_one_too_few(shared: Shared):
    one, again = shared.partials(shared.job, 0, 0)
    assert one != again
    with pytest.raises(PartialDecryptionError, match="the same holder"):
        shared.play.researcher.result(shared.job, [one, again])


def test_a_changed_part_is_refused_and_its_holder_named(shared: Shared):
    one, two = shared.partials(shared.job, 0, 1)
    first = replace(two.parts[0], value=two.parts[0].value ^ 4)
    false = replace(two, parts=(first, *two.parts[1:]))
    with pytest.raises(ResultError, match=f"{two.holder} made of ciphertext 0 is false"):
        shared.play.researcher.result(shared.job, [one, false])
    assert shared.play.researcher.result(shared.job, [one, two]) == {"sums": SUMS}


def test_a_release_that_breaks_a_rule_of_the_log_gets_no_part(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
):
    holder = shared.holders[0]
    holder.log.sync()
    history = holder.log.history
    with monkeypatch.context() as patch:
        patch.setitem(history.broken, history.released[shared.job].id, "contributions_differ")
        with pytest.raises(ResultError, match="contributions_differ"):
            shared.partials(shared.job, 0)
    assert shared.partials(shared.job, 0)


@pytest.mark.slow
def test_parts_of_another_job_open_nothing(shared: Shared):
    other = shared.run()
    one, two = shared.partials(shared.job, 0)[0], shared.partials(other, 1)[0]
    with pytest.raises(ResultError, match="is false"):
        shared.play.researcher.result(shared.job, [one, two])


def test_a_holder_of_another_key_makes_no_part(shared: Shared):
    holder = shared.holders[0]
    other = share_fixed([each.home.participant() for each in shared.holders])
    with pytest.raises(HolderError, match="another key"):
        holder.decrypt(shared.job, other[0])
    with pytest.raises(HolderError, match="another participant's"):
        holder.decrypt(shared.job, shared.shares[1])
    assert holder.decrypt(shared.job, shared.shares[0]).holder == holder.home.participant()


def released_instead(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let the operator's own program release something else than the sum."""
    honest = server_app.add_ciphertexts
    monkeypatch.setattr(
        server_app,
        "add_ciphertexts",
        lambda record, contributions, public: change(honest, record, contributions, public),
    )


def test_a_single_contribution_in_place_of_the_sum_gets_no_part(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
):
    def single(_: Any, record: Any, contributions: Any, public: Any) -> Any:
        del record, public
        return next(iter(contributions.values())).ciphertexts

    with monkeypatch.context() as patch:
        released_instead(patch, single)
        job = shared.run()
    for at in range(3):
        with pytest.raises(ResultError, match="not that of the receipted contributions"):
            shared.partials(job, at)
    # The twin: two holders that raise what they are handed open what one node sent.
    handed = shared.ciphertexts(job)
    parts = tuple(decrypt_partially(share, handed) for share in shared.shares[:2])
    opened = combine(Quorum(shared.shares[0].key, parts), handed)
    assert opened == decrypt(fixed_secret(), _sent(shared, job))


def _sent(shared: Shared, job: str) -> list[int]:
    """Return the ciphertexts of the contribution that was released, from its receipted bytes."""
    found = []
    for item in shared.holders[0].call("GET", f"/jobs/{job}/contributions"):
        reply = read_reply(b64decode(item["reply"]))
        assert isinstance(reply, Contribution)
        found.append([int.from_bytes(each, "big") for each in reply.ciphertexts or ()])
    return next(each for each in found if each == shared.ciphertexts(job))


@pytest.mark.slow
def test_another_sum_in_place_of_the_sum_gets_no_part(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
):
    public = shared.shares[0].key.public
    wanted = shared.ciphertexts(shared.job)

    def other(*_: Any) -> Any:
        return tuple(each.to_bytes(public.ciphertext_bytes, "big") for each in wanted)

    with monkeypatch.context() as patch:
        released_instead(patch, other)
        job = shared.run()
    with pytest.raises(ResultError, match="not that of the receipted contributions"):
        shared.partials(job, 0)
    # The twin: without its own sum a holder opens the other job's.
    monkeypatch.setattr(key_holder, "receipted_sum", lambda *_: shared.ciphertexts(job))
    parts = tuple(shared.partials(job, 0, 1))
    right = tuple(decrypt_partially(share, wanted) for share in shared.shares[:2])
    key = shared.shares[0].key
    assert combine(Quorum(key, parts), wanted) == combine(Quorum(key, right), wanted)


@pytest.mark.slow
def test_a_document_that_was_not_released_gets_no_part(shared: Shared):
    job = shared.run()
    context = shared.play.market.app.state.context
    with Session(context.engine) as session:
        row = session.exec(select(Result).where(Result.job_id == job)).one()
        honest = row.document
        row.document = canonical({"ciphertexts": [b64encode(b"\1" * 8)]})
        session.add(row)
        session.commit()
    with pytest.raises(ResultError, match="not the one that was released"):
        shared.partials(job, 0)
    with Session(context.engine) as session:
        row = session.exec(select(Result).where(Result.job_id == job)).one()
        row.document = honest
        session.add(row)
        session.commit()
    assert shared.partials(job, 0)


@pytest.mark.slow
def test_a_holder_reads_the_evidence_of_its_job_and_of_no_other(shared: Shared):
    play = shared.play
    ordinary = play.run("encrypted_sum", columns=["small"])
    holder, stranger = shared.holders[0], play.seats[0].client
    for what in ("result", "contributions", "openings"):
        assert holder.call("GET", f"/jobs/{shared.job}/{what}")
        with pytest.raises(ClientError, match="no such job"):
            holder.call("GET", f"/jobs/{ordinary}/{what}")
        # A provider of the job's data is no holder of its key.
        with pytest.raises(ClientError, match="researcher and its key's holders"):
            stranger.call("GET", f"/jobs/{shared.job}/{what}")


@pytest.mark.slow
def test_a_holder_reads_the_statements_of_its_job_and_of_no_other(shared: Shared):
    ordinary = shared.play.run("statistics", columns=["small"])
    holder = shared.holders[0]
    holder.log.sync()
    released = holder.log.history.released
    assert shared.job in released
    assert ordinary not in released
    assert [each["job"] for each in holder.call("GET", "/jobs")].count(ordinary) == 0


@pytest.mark.parametrize("who", ["stranger", "researcher", "operator"])
def test_a_key_with_such_a_holder_is_refused(shared: Shared, who: str):
    play = shared.play
    names = {
        "stranger": "participant:" + "0" * 64,
        "researcher": play.researcher.home.participant(),
        "operator": play.market.app.state.context.operator,
    }
    others = [each.home.participant() for each in shared.holders[:2]]
    key = share_fixed([names[who], *others])[0].key.to_json()
    with pytest.raises(ClientError) as refused:
        play.job("encrypted_sum", parameters={"columns": COLUMNS}, encryption_key=key)
    assert refused.value.code == "encryption_key"


def test_a_key_that_is_none_is_refused(shared: Shared):
    key = shared.shares[0].key.to_json()
    broken = {**key, "holders": [each | {"key": key["base"]} for each in key["holders"]]}
    with pytest.raises(ClientError) as refused:
        shared.play.job("encrypted_sum", parameters={"columns": COLUMNS}, encryption_key=broken)
    assert refused.value.code == "encryption_key"
    context = shared.play.market.app.state.context
    with Session(context.engine) as session:
        rows = session.exec(
            select(JobKeyHolder.participant_id).where(JobKeyHolder.job_id == shared.job)
        ).all()
    assert set(rows) == {each.home.participant() for each in shared.holders}


def test_a_part_goes_to_a_file_for_its_owner_alone_and_back(shared: Shared, tmp_path: Path):
    path, public = tmp_path / "sum.partial", shared.shares[0].key.public
    (partial,) = shared.partials(shared.job, 0)
    write_partial(path, shared.job, partial)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_partial(path, shared.job, public) == partial
    with pytest.raises(HolderError, match="another job"):
        read_partial(path, "job:" + "0" * 64, public)
    path.write_bytes(b"{}")
    with pytest.raises(HolderError, match="is no"):
        read_partial(path, shared.job, public)


@pytest.mark.slow
def test_the_researcher_submits_under_the_holders_key(shared: Shared):
    play = shared.play
    job = Researcher.submit_job(
        play.researcher,
        name="totals",
        task="encrypted_sum",
        parameters={"columns": COLUMNS},
        preparation=play.rows(),
        purpose="research",
        agreements=play.stage.agreements,
        shared_key=shared.shares[0].key,
    )
    play.market.decide()
    assert play.stage.wait(job)["state"] == "released"
    assert play.researcher.result(job, shared.partials(job, 1, 2)) == {"sums": SUMS}


def test_a_secret_key_of_the_same_modulus_is_another_key(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
):
    # Also the dealer, who could know the factors, is not what the job was signed with.
    monkeypatch.setattr(Researcher, "_opener", lambda *_: fixed_secret())
    with pytest.raises(ResultError, match="another encryption key"):
        shared.play.researcher.result(shared.job)


def test_providers_can_ask_for_a_key_that_nobody_opens_alone(shared: Shared):
    play, key = shared.play, shared.shares[0].key
    asked = {"shared_key": {"threshold": 2, "holders": list(key.holders)}}
    rows = Preparation.parse(asked).to_json()
    agreements = {seat.asset: play.stage.agree_apart(seat, terms(), rows) for seat in play.seats}

    def statement(**changes: Any) -> Job:
        columns = {"columns": COLUMNS}
        return play.statement(
            "encrypted_sum", agreements, parameters=columns, preparation=rows, **changes
        )

    with pytest.raises(ClientError, match="a key that holders share") as refused:
        play.submit(statement())
    assert refused.value.code == "grant_mismatch"
    # An operator who lets it pass gets no node to compute.
    with play.market.insecure_operator():
        job = play.submit(statement())
        play.market.decide()
        view = play.stage.wait(job)
    assert view["state"] == "refused"
    assert "grant_mismatch" in {party["reason"] for party in view["parties"]}
    job = play.submit(statement(encryption_key=key.to_json()))
    play.market.decide()
    assert play.stage.wait(job)["state"] == "released"
    assert play.researcher.result(job, shared.partials(job, 0, 2)) == {"sums": SUMS}
