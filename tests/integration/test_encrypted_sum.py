"""An encrypted sum: exact for the researcher, and unreadable in all that the operator holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated import server_app
from federated.node import masks, work
from federated.node.rows import prepare
from federated.planning import plan_of
from federated.rounds import RoundRecord, correction_of, encrypt_words, packing_for
from ledger.statements import Asset, Job
from privacy.paillier import PublicKey, SecretKey
from tests.searcher import Searcher, folder_bytes
from tests.stage import Play, open_stage, terms

BIG = 2**52 - 1
COLUMNS = ["small", "big", "fraction", "gaps", "negative"]


def table(rows: int, seed: int) -> str:
    generator = np.random.default_rng(seed)
    lines = [",".join(COLUMNS)]
    for at in range(rows):
        cells = (
            str(int(generator.integers(-99, 99))),
            str(BIG - int(generator.integers(0, 10**6))),
            repr(float(generator.normal(0, 1e4))),
            "" if at % 3 == 0 else repr(float(generator.normal(50, 3))),
            repr(-abs(float(generator.normal(1e-3, 1e-4)))),
        )
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


TABLES = {name: table(rows, rows) for name, rows in (("basel", 40), ("bern", 33), ("one", 1))}


def cells(name: str, column: str) -> list[str]:
    header, *lines = TABLES[name].splitlines()
    at = header.split(",").index(column)
    return [line.split(",")[at] for line in lines if line.split(",")[at]]


def pooled(column: str) -> float | int:
    found = [cell for name in TABLES for cell in cells(name, column)]
    if column in ("small", "big"):
        return sum(int(cell) for cell in found)
    return math.fsum(float(cell) for cell in found)


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


@pytest.fixture(name="play")
def _play(tmp_path: Path, secret: SecretKey) -> Iterator[Play]:
    with open_stage(tmp_path, TABLES, agreed=terms(uses=99), key=secret) as play:
        yield play


def held_by_operator(play: Play, caplog: pytest.LogCaptureFixture) -> list[bytes]:
    """Every byte that passed, was logged or is kept; the market may still run."""
    said = [data for _, _, data in play.crossed] + [data for _, data in play.spoken]
    said += [record.getMessage().encode() for record in caplog.records]
    return said + folder_bytes(play.market.folder / "service")


def secrets_of(play: Play, job: str) -> Searcher:
    """Seek each party's sums and the totals, as numbers and in the encoding that was summed."""
    history = play.researcher.log.history
    statement = history.get(job, Job)
    task, plan = plan_of(statement, {name: history.get(name, Asset) for name in statement.assets})
    question = next(task.conduct(plan))
    searcher = Searcher()
    totals: dict[str, float] = {}
    for node in play.nodes:
        rows = prepare(node._vault.table(node.asset)[0], plan.preparation)
        for field in question.layout:
            for number in task.answer(plan, question, rows)[field.name]:
                totals[field.name] = totals.get(field.name, 0.0) + float(number)
                _seek(searcher, float(number), field)
    for field in question.layout:
        if field.length == 1:
            _seek(searcher, totals[field.name], field)
    for column in COLUMNS[1:]:
        value = pooled(column)
        if isinstance(value, int):
            searcher.seek_integer(value)
        else:
            searcher.seek_number(value, short=False)
    return searcher


def _seek(searcher: Searcher, number: float, field: object) -> None:
    if len(repr(number)) >= 9:
        searcher.seek_number(number, short=False)
        searcher.seek_encoded(number, field.scale)  # type: ignore[attr-defined]


def test_the_sum_is_exact_and_nobody_but_the_researcher_can_read_it(
    play: Play, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    job = play.run("encrypted_sum", columns=COLUMNS)
    # Everything is looked at before the researcher opens the sum.
    held = held_by_operator(play, caplog)
    sums = play.researcher.result(job)["sums"]
    for column in COLUMNS[:2]:
        assert sums[column] == pooled(column)
        assert type(sums[column]) is int
    for column in COLUMNS[2:]:
        assert sums[column] == pytest.approx(pooled(column), rel=1e-12, abs=1e-9)
    assert sums["big"] > 1 << 53
    assert secrets_of(play, job).found(held) == set()


def test_without_encryption_the_total_is_caught(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    less: list[np.ndarray] = []

    def heard(record: RoundRecord, contributions: Any, public: PublicKey) -> Any:
        # What takes the masks off was revealed to the operator.
        less.append(correction_of(record, contributions))
        return honest(record, contributions, public)

    honest = server_app.add_ciphertexts
    monkeypatch.setattr(server_app, "add_ciphertexts", heard)
    caplog.set_level(logging.DEBUG)
    # The masks stand, so each contribution is noise; their sum is not.
    monkeypatch.setattr(work, "encrypt_words", packed_only)
    job = play.job("encrypted_sum", parameters={"columns": COLUMNS})
    play.market.decide()
    view = play.stage.wait(job)
    assert view["state"] in ("failed", "released")
    replies = _sent_words(play, len(TABLES))
    total = sum(replies[1:], start=replies[0])[: len(less[0])] - less[0]
    play.researcher.log.sync()
    found = secrets_of(play, job).found([total.astype("<u8").tobytes()])
    assert any("little-endian" in hit for hit in found)


def packed_only(public: PublicKey, words: np.ndarray, parties: Any) -> tuple[bytes, ...]:
    """Packs words as a node does, and leaves it at that."""
    # Zero would pass for no ciphertext; with n added, every plaintext looks like one.
    plaintexts = packing_for(parties).pack(public, words)
    return tuple((public.n + each).to_bytes(public.ciphertext_bytes, "big") for each in plaintexts)


def _sent_words(play: Play, parties: int) -> list[np.ndarray]:
    """What the operator can read of contributions that are not encrypted."""
    import re

    from federated.messages import Contribution, read_reply

    found = {}
    public, packing = play.researcher.home.encryption_key().public, packing_for(range(parties))
    length = packing.slots(public)
    for _, _, data in play.crossed:
        for match in re.finditer(rb'\{"asset":.*?"type":"contribution/v4","words":null\}', data):
            reply = read_reply(match[0])
            if isinstance(reply, Contribution) and reply.ciphertexts:
                (number,) = (int.from_bytes(each, "big") % public.n for each in reply.ciphertexts)
                found[reply.asset] = packing.unpack(public, [number], length)
    assert len(found) == parties
    return list(found.values())


def test_without_masks_and_encryption_each_party_is_caught(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(masks, "mask", lambda words, **_: words)
    monkeypatch.setattr(work, "encrypt_words", packed_only)
    job = play.job("encrypted_sum", parameters={"columns": COLUMNS})
    play.market.decide()
    play.stage.wait(job)
    sent = [words.astype("<u8").tobytes() for words in _sent_words(play, len(TABLES))]
    play.researcher.log.sync()
    assert secrets_of(play, job).found(sent)


def test_a_ciphertext_says_nothing_twice(secret: SecretKey):
    words = np.array([7] * 60, dtype=np.uint64)
    first, second = encrypt_words(secret.public, words, range(4))
    assert first != second
    assert {first, second}.isdisjoint(encrypt_words(secret.public, words, range(4)))


def test_a_job_signed_before_keys_claimed_a_form_still_opens(
    play: Play, secret: SecretKey, monkeypatch: pytest.MonkeyPatch
):
    silent = SecretKey(PublicKey(secret.public.n), *secret.raw_primes())
    with monkeypatch.context() as patch:
        patch.setattr(type(play.researcher.home), "encryption_key", lambda _: silent)
        job = play.run("encrypted_sum", columns=["small", "big"])
    # From its file the key is one that claims the form; the job does not say so.
    assert play.researcher.home.encryption_key().public.blum
    play.researcher.log.sync()
    assert "primes" not in (play.researcher.log.history.get(job, Job).encryption_key or {})
    sums = play.researcher.result(job)["sums"]
    assert sums == {"small": pooled("small"), "big": pooled("big")}


def test_another_researchers_key_opens_nothing(play: Play, tmp_path: Path):
    job = play.run("encrypted_sum", columns=["small"])
    path = play.researcher.home.folder / "encryption.key"
    path.unlink()
    SecretKey.generate(2048).save(path)
    from marketplace.recompute import ResultError

    with pytest.raises(ResultError, match="another encryption key"):
        play.researcher.result(job)
    assert tmp_path.exists()
