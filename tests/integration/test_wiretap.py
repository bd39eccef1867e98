"""Every byte that leaves a node during three real jobs, searched for what must stay inside."""

from __future__ import annotations

import base64
import logging
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated import rounds
from federated.grid import TO_SERVER
from federated.messages import RoundRequest, read_request
from federated.node import masks
from federated.node.rows import prepare
from federated.node.work import Work
from federated.plan import Field, Question
from federated.planning import plan_of
from federated.tasks.statistics import Statistics
from ledger.encoding import b64encode
from ledger.export import export
from ledger.keys import SigningKey
from ledger.statements import Asset, Job
from privacy.fixedpoint import encode, plan_scale
from privacy.paillier import SecretKey
from tests.searcher import Searcher, folder_bytes
from tests.stage import LABEL, Play, open_stage

CANARIES = (137.0625, 48213.7, 91.84375, -77.390625)
"""Odd cells, each of which the jobs below add up."""

LONE = (613.28125, 55.0625)
"""The only row of the smallest party: its sums are its cells."""


def table(rows: int, seed: int, cells: tuple[tuple[float, float], ...]) -> str:
    generator = np.random.default_rng(seed)
    lines = ["chol,pressure,visits,sick"]
    lines += [f"{chol},{pressure},7,{at % 2}" for at, (chol, pressure) in enumerate(cells)]
    for at in range(rows):
        chol, pressure = generator.normal(230, 40), generator.normal(120, 15)
        lines.append(f"{chol:.3f},{pressure:.3f},{int(generator.integers(0, 9))},{at % 2}")
    return "\n".join(lines) + "\n"


TABLES = {
    "basel": table(24, 1, ((CANARIES[0], CANARIES[2]),)),
    "bern": table(21, 2, ((CANARIES[1], CANARIES[3]),)),
    "lone": table(0, 3, ((LONE[0], LONE[1]),)),
}
JOBS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("statistics", {"columns": ["chol", "pressure"]}),
    ("logistic", {"columns": ["chol", "pressure"], "ridge": 1}),
    ("encrypted_sum", {"columns": ["chol", "pressure", "visits"]}),
)


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


@dataclass
class Overheard:
    """All that left the nodes, and what each of them computed inside."""

    said: list[bytes]
    insides: list[tuple[Field, float]]
    own: Searcher
    cells: Searcher

    def leaks(self) -> set[str]:
        return self.own.found(self.said) | self.cells.found(self.said)


def listen(
    folder: Path, secret: SecretKey, caplog: pytest.LogCaptureFixture, jobs: Any = JOBS
) -> Overheard:
    """Run the jobs and keep everything that leaves a node, and all that the operator holds."""
    caplog.set_level(logging.DEBUG)
    with open_stage(folder, TABLES, preparation={"label": LABEL}, key=secret) as play:
        for task, parameters in jobs:
            job = play.run(task, **parameters)
            play.researcher.result(job)
        log = play.market.app.state.context.log
        key = SigningKey.load(play.market.app.state.context.settings.log_key)
        export(log, key, folder / "export", opened=range(log.size), scope="all", now=play.clock())
        insides = list(_insides(play))
    said = [data for _, _, data in play.crossed] + [data for _, data in play.spoken]
    said += [record.getMessage().encode() for record in caplog.records]
    said += [str(record.exc_info).encode() for record in caplog.records if record.exc_info]
    # Closed by now: the database is whole in its one file.
    said += folder_bytes(folder / "market" / "service") + folder_bytes(folder / "export")
    return Overheard(said, insides, _own(insides), _cells(insides))


def _insides(play: Play) -> Iterator[tuple[Field, float]]:
    """Return each number that a node computed, in the clear, with the scale it was encoded at."""
    history = play.market.app.state.context.log.history
    asked = {
        (message.job, message.round): message
        for direction, _, data in play.crossed
        if direction != TO_SERVER and (message := _round_request(data)) is not None
    }
    for message in asked.values():
        job = history.get(message.job, Job)
        task, plan = plan_of(job, {name: history.get(name, Asset) for name in job.assets})
        question = Question.from_json(message.question)
        for node in play.nodes:
            found, _ = node._vault.table(node.asset)
            rows = prepare(found, plan.preparation)
            values = task.answer(plan, question, rows)
            for field in question.layout:
                for number in values[field.name]:
                    yield field, float(number)


def _round_request(data: bytes) -> RoundRequest | None:
    start = data.find(b'{"attempt"')
    if start < 0 or b"round-request/v2" not in data:
        return None
    end = data.rfind(b'"round-request/v2"}') + len(b'"round-request/v2"}')
    found = read_request(data[start:end])
    return found if isinstance(found, RoundRequest) else None


def _own(insides: list[tuple[Field, float]]) -> Searcher:
    """Seek every number that a node computed, in the very encoding in which it was summed."""
    searcher = Searcher()
    public = [field.bound for field, _ in insides]
    for field, number in insides:
        # Short numbers stand everywhere; the loss at a model of zeros is rows times log 2, and the
        # very bound of its field, which all may know.
        known = any(math.isclose(number, bound, rel_tol=1e-9) for bound in public)
        if len(repr(number)) >= 8 and not known:
            searcher.seek_encoded(number, field.scale)
            searcher.seek_number(number, short=False)
    return searcher


def _cells(insides: list[tuple[Field, float]]) -> Searcher:
    """Seek the odd cells themselves, at every scale that any round used."""
    searcher = Searcher()
    scales = {field.scale for field, _ in insides}
    for cell in (*CANARIES, *LONE):
        searcher.seek_number(cell)
        for scale in scales:
            for unit in (1.0, 2.0 ** (math.frexp(CANARIES[1])[1]), 2.0**7, 2.0**10):
                with_unit = cell / unit
                if abs(with_unit) * 2**scale.fraction_bits < scale.limit:
                    searcher.seek_encoded(with_unit, scale)
    return searcher


def test_no_number_of_a_row_or_of_one_party_leaves_its_node(
    tmp_path: Path, secret: SecretKey, caplog: pytest.LogCaptureFixture
):
    heard = listen(tmp_path, secret, caplog)
    # The jobs did use what is sought: the lone row's cells are its party's sums, in some unit.
    sums = [number for field, number in heard.insides if field.name.startswith("sum")]
    for cell in LONE:
        assert any(math.frexp(number)[0] == math.frexp(cell)[0] for number in sums)
    assert len(heard.insides) > 100
    assert sum(map(len, heard.said)) > 100_000
    assert heard.leaks() == set()


# --- the same search catches what leaks


def _without_masks(vector: Any, **_: Any) -> Any:
    return vector


def _nothing_to_take_off(record: Any, _: Any) -> Any:
    return np.zeros(record.question.words, np.uint64)


@pytest.mark.slow
def test_a_contribution_without_its_mask_is_caught(
    tmp_path: Path,
    secret: SecretKey,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(masks, "mask", _without_masks)
    monkeypatch.setattr(rounds, "correction_of", _nothing_to_take_off)
    heard = listen(tmp_path, secret, caplog, JOBS[:2])
    caught = heard.own.found(heard.said)
    sums = [number for field, number in heard.insides if field.name == "sum"]
    assert any(repr(sums[0]) in hit for hit in caught)
    # The lone party's sum is the raw cell itself.
    assert any(str(LONE[0] / 2**16) in hit for hit in heard.cells.found(heard.said))


LEAKS: dict[str, Callable[[float], bytes]] = {
    "float64": lambda cell: struct.pack("<d", cell),
    "text": lambda cell: repr(cell).encode().ljust(8, b" "),
    "fixed point": lambda cell: encode(np.array([cell]), plan_scale(2.0**16, 3)).tobytes(),
}


@pytest.mark.parametrize("way", LEAKS)
def test_a_task_that_puts_a_cell_into_its_answer_is_caught(
    tmp_path: Path,
    secret: SecretKey,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
):
    del caplog
    with open_stage(tmp_path, TABLES, preparation={"label": LABEL}, key=secret) as play:

        def leaking(work: Any, request: Any, masked: Any) -> Any:
            cell = float(work.rows.column("chol", "all")[0])
            leak = np.frombuffer(LEAKS[way](cell), dtype="<u8")
            return honest(work, request, np.concatenate([leak, masked[len(leak) :]]))

        honest = Work.contribution
        monkeypatch.setattr(Work, "contribution", leaking)
        job = play.job("statistics")
        play.market.decide()
        play.stage.wait(job)
    searcher = Searcher()
    for cell in (*CANARIES, *LONE):
        searcher.seek_number(cell)
        searcher.seek_encoded(cell, plan_scale(2.0**16, 3))
    assert any(repr(CANARIES[0]) in hit for hit in searcher.found(d for _, _, d in play.crossed))


@pytest.mark.slow
def test_a_task_that_logs_a_cell_is_caught(
    tmp_path: Path,
    secret: SecretKey,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    honest = Statistics.answer

    def leaking(self: Statistics, plan: Any, question: Any, rows: Any) -> Any:
        logging.getLogger("anything").debug("the first value is %s", rows.column("chol", "all")[0])
        return honest(self, plan, question, rows)

    monkeypatch.setattr(Statistics, "answer", leaking)
    heard = listen(tmp_path, secret, caplog, JOBS[:1])
    assert any(repr(CANARIES[0]) in hit for hit in heard.leaks())


# --- the searcher

NUMBER = 137.0625
SCALE = replace(plan_scale(1000.0, 4), fraction_bits=40)
FORMS: dict[str, bytes] = {
    "text": b'{"mean":137.0625}',
    "exponent": b"1.370625e+02",
    "comma": b"137,0625",
    "float32": b"xx" + struct.pack("<f", 137.0703125) + b"yy",
    "float64": struct.pack("<d", NUMBER),
    "float64 in base64": base64.b64encode(b"a" + struct.pack(">d", NUMBER) + b"b"),
    "glued base64": b"key/" + base64.b64encode(b"ab" + struct.pack("<d", NUMBER) + b"b")[1:],
    "hex": struct.pack("<d", NUMBER).hex().encode(),
    "words": encode(np.array([NUMBER]), SCALE).astype("<u8").tobytes(),
    "words in base64 in base64": base64.b64encode(
        b'{"words":"' + b64encode(bytes(8) + encode(np.array([NUMBER]), SCALE).tobytes()).encode()
    ),
    "decimal": str(round(NUMBER * 2**40)).encode(),
    "negative": str(round(-NUMBER * 2**40)).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_searcher_finds_each_form_and_not_another_number(form: str):
    searcher, other = Searcher(), Searcher()
    for value in (NUMBER, 137.0703125, -NUMBER):
        searcher.seek_number(value)
        searcher.seek_encoded(value, SCALE)
        other.seek_number(value + 2)
        other.seek_encoded(value + 2, SCALE)
    assert searcher.found([b"before", FORMS[form]])
    assert not other.found([b"before", FORMS[form]])


def test_the_end_of_a_longer_number_is_not_the_number():
    """Guards: a time with microseconds ended in one of a thousand numbers that are sought."""
    searcher = Searcher()
    searcher.seek_number(0.32735908)
    assert not searcher.found([b'{"at": 1764594460.327359}', b"12:10:30.327359"])
    for text in (b"0.327359", b"x=0.327359", b"-0.327359", b"30.327359 0.327359"):
        assert searcher.found([text]) == {"0.32735908 as text 0.327359"}
