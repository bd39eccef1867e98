"""What must hold for any rows, any change and any hostile bytes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from privacy.ckks.batches import Packing
from privacy.ckks.container import digest
from privacy.ckks.encrypted import Answer, EncryptedColumns, EncryptedScores
from privacy.ckks.keys import PublicContext, SecretContext
from privacy.ckks.model import LinearModel, Link, model_from_json
from privacy.ckks.parameters import LINEAR
from privacy.ckks.results import NOISE_BITS
from privacy.ckks.roles import Scorer
from privacy.errors import (
    ChildError,
    ChildRefusalError,
    KeyFileError,
    PrivacyError,
    SealedBytesError,
)
from tests.ckks_pair import Pair, pair

FEW = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MANY = settings(FEW, max_examples=100)
MODEL = LinearModel((0.5,), 0.25, Link.LOGISTIC)
numbers = st.floats(-1e6, 1e6).map(float)


@pytest.fixture(scope="module")
def both() -> Iterator[Pair]:
    with pair(LINEAR) as one:
        yield one


@pytest.fixture(scope="module")
def columns(both: Pair) -> EncryptedColumns:
    return both.owner.encrypt(np.array([[0.5]]), (1.0,))


@FEW
@given(
    rows=st.integers(1, 40) | st.just(4097),
    packing=st.sampled_from([Packing.SINGLE, Packing.PAIRED]),
    columns=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    intercept=numbers,
)
def test_encrypted_predictors_equal_plain_ones(
    both: Pair, rows: int, packing: Packing, columns: int, seed: int, intercept: float
):
    rng = np.random.default_rng(seed)
    bounds = tuple((10.0 ** rng.uniform(-3, 3, columns)).tolist())
    values = rng.uniform(-1, 1, (rows, columns)) * np.array(bounds)
    model = LinearModel(tuple(rng.normal(size=columns).tolist()), intercept, Link.IDENTITY)
    scores = both.scorer.score(model, both.owner.encrypt(values, bounds, packing))
    raw = both.owner.decrypt_scores(scores)
    errors = np.abs(raw.values - model.predict(values))
    assert errors.max() <= raw.bound * 2.0 ** -NOISE_BITS[LINEAR]


@given(st.lists(numbers, min_size=1, max_size=5).filter(any), numbers, st.sampled_from(Link))
def test_a_models_json_goes_there_and_back(weights: list[float], intercept: float, link: Link):
    model = LinearModel(tuple(weights), intercept, link)
    assert model_from_json(model.to_json()) == model


def changed(data: bytes, at: int, by: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ by]) + data[at + 1 :]


@MANY
@given(at=st.integers(0, 2**32), by=st.integers(1, 255))
def test_any_changed_byte_is_refused(
    both: Pair,
    columns: EncryptedColumns,
    tmp_path_factory: pytest.TempPathFactory,
    at: int,
    by: int,
):
    public = both.secret.public.to_bytes()
    with pytest.raises(SealedBytesError, match="digest"):
        PublicContext.from_bytes(changed(public, at, by), sha256=digest(public))
    data = columns.to_bytes()
    with pytest.raises(SealedBytesError, match="digest"):
        EncryptedColumns.from_bytes(changed(data, at, by), sha256=digest(data))
    answer = EncryptedScores(
        LINEAR,
        "k",
        1,
        packing=Packing.SINGLE,
        answer=Answer.PREDICTOR,
        link=Link.IDENTITY,
        factor=1.0,
        bodies=columns.bodies,
    )
    with pytest.raises(SealedBytesError, match="digest"):
        EncryptedScores.from_bytes(
            changed(answer.to_bytes(), at, by), sha256=digest(answer.to_bytes())
        )
    path = tmp_path_factory.mktemp("key") / "secret"
    both.secret.save(path)
    path.write_bytes(changed(path.read_bytes(), at, by))
    with pytest.raises(KeyFileError):
        SecretContext.load(path)


@MANY
@given(st.binary(max_size=300))
def test_any_bytes_under_their_own_digest_are_read_or_refused(data: bytes):
    for kind in (EncryptedColumns, EncryptedScores, PublicContext):
        with pytest.raises(PrivacyError):
            kind.from_bytes(data, sha256=digest(data))


def peak_of(scorer: Scorer) -> int:
    """Largest resident memory of the scorer's child so far, in bytes."""
    status = Path(f"/proc/{scorer._engine._child.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


class Hardy:
    """A scorer that is started anew whenever hostile bytes ended its child."""

    def __init__(self, public: PublicContext) -> None:
        self._public = public
        self.scorer = Scorer.start(public)

    def face(self, hostile: EncryptedColumns) -> None:
        """Nothing but a typed error, or scores, may come of it."""
        try:
            self.scorer.score(MODEL, hostile)
        except ChildRefusalError:
            return
        except ChildError:
            self.scorer.end()
            self.scorer = Scorer.start(self._public)


@pytest.fixture(scope="module")
def hardy(both: Pair) -> Iterator[Hardy]:
    one = Hardy(both.secret.public)
    yield one
    one.scorer.end()


def gigabyte() -> bytes:
    """SEAL's header, which announces a gigabyte, before 40 bytes."""
    return bytes.fromhex("5ea1100403020000") + (1 << 30).to_bytes(8, "little") + bytes(40)


def bomb() -> bytes:
    """120 kB of Zstandard blocks that stand for 3.9 GB."""
    block = (131072 << 3 | 1 << 1).to_bytes(3, "little") + b"\xff"
    payload = b"\x28\xb5\x2f\xfd\x00\x58" + block * 30_000
    size = (16 + len(payload)).to_bytes(8, "little")
    return bytes.fromhex("5ea1100403020000") + size + payload


@st.composite
def mutations(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], bytes]:
    cut = draw(st.integers(1, 60_000))
    near = draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4))
    return cut, near, draw(st.binary(max_size=60))


@MANY
@given(mutations())
def test_hostile_ciphertexts_are_refused_or_end_the_child_within_its_memory(
    hardy: Hardy, columns: EncryptedColumns, mutation: tuple[int, list[tuple[int, int]], bytes]
):
    cut, near, start = mutation
    body = bytearray(columns.bodies[0][:cut])
    for at, value in near:
        body[at % len(body)] = value
    body[: len(start) // 2] = start[: len(start) // 2]
    hostile = replace(columns, bodies=(bytes(body),))
    data = hostile.to_bytes()
    arrived = EncryptedColumns.from_bytes(data, sha256=digest(data))
    hardy.face(arrived)
    assert peak_of(hardy.scorer) < 512 << 20


@pytest.mark.parametrize("body", [gigabyte(), bomb(), b"\0", b"\xff" * 100_000], ids=len)
def test_claims_of_gigabytes_are_refused_and_cost_no_memory(
    both: Pair, columns: EncryptedColumns, body: bytes
):
    with pytest.raises(ChildError):
        both.scorer.score(MODEL, replace(columns, bodies=(body,)))
    assert peak_of(both.scorer) < 512 << 20
    assert len(both.scorer.score(MODEL, columns).bodies) == 1


@pytest.mark.slow
@settings(FEW, max_examples=8)
@example(gigabyte())
@given(st.binary(min_size=1, max_size=200))
def test_hostile_public_keys_start_no_scorer(both: Pair, key: bytes):
    with pytest.raises(ChildError):
        Scorer.start(PublicContext(LINEAR, key))
    del both
