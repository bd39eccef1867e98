import json

import pytest

from privacy.ckks.container import digest, pack, unpack
from privacy.ckks.encrypted import (
    COLUMNS_NAMESPACE,
    SCORES_NAMESPACE,
    EncryptedColumns,
    EncryptedScores,
)
from privacy.ckks.parameters import LINEAR, Parameters
from privacy.errors import ColumnsError, ParametersError, PrivacyError, SealedBytesError

KIND = "rongshu/test/v1"
FIELDS = {"rows": 3, "name": "x"}
BODIES = [b"one", b"three"]


def opened(data: bytes) -> tuple[dict[str, object], list[bytes]]:
    return unpack(KIND, data, sha256=digest(data))


def test_a_container_goes_there_and_back():
    data = pack(KIND, FIELDS, BODIES)
    assert opened(data) == (FIELDS, BODIES)
    assert data.endswith(b'{"bodies":[3,5],"name":"x","rows":3}\nonethree')


def test_length_comes_first_then_the_digest_then_the_form():
    data = pack(KIND, FIELDS, BODIES)
    with pytest.raises(SealedBytesError, match="more than the 10"):
        unpack(KIND, b"x" * 11, sha256="", longest=10)
    with pytest.raises(SealedBytesError, match="digest"):
        unpack("rongshu/other/v1", data, sha256=digest(b""))
    with pytest.raises(SealedBytesError, match="not of rongshu/other/v1"):
        unpack("rongshu/other/v1", data, sha256=digest(data))


@pytest.mark.parametrize("named", ["", "é" * 64, "0" * 63, digest(b"").upper()])
def test_a_digest_that_is_none_opens_nothing(named: str):
    with pytest.raises(SealedBytesError, match="digest"):
        unpack(KIND, pack(KIND, FIELDS, BODIES), sha256=named)


HEAD = KIND.encode() + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,
        HEAD + b"{}\n",
        HEAD + b'{"bodies":[3]}\nab',
        HEAD + b'{"bodies":[3]}\nabcd',
        HEAD + b'{"bodies":[0]}\n',
        HEAD + b'{"bodies":[-1,4]}\nabc',
        HEAD + b'{"bodies":[true]}\na',
        HEAD + b'{"bodies":[1.0]}\na',
        HEAD + b'{"bodies": [1]}\na',
        HEAD + b'{"bodies":[1],"a":1,"a":2}\na',
        HEAD + b'{"b":1,"a":1,"bodies":[1]}\na',
        HEAD + b'{"bodies":[1],"x":NaN}\na',
        HEAD + b'["bodies"]\n',
        HEAD + b"[" * 50_000 + b"\n",
        HEAD + b"\xff\n",
        HEAD + b'{"bodies":[' + b"1," * 140_000 + b"1]}\n" + b"x" * 140_001,
        HEAD + b'{"bodies":[1000000000]}\n',
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_another_form_is_refused_even_under_its_own_digest(data: bytes):
    with pytest.raises(SealedBytesError):
        opened(data)


COLUMNS = {
    "bounds": ["1.0", "2.5"],
    "key": "k",
    "packing": "single",
    "parameters": LINEAR.to_json(),
    "rows": 2049,
}
SCORES = {
    "answer": "predictor",
    "factor": "2.5",
    "key": "k",
    "link": "logistic",
    "packing": "single",
    "parameters": LINEAR.to_json(),
    "rows": 2049,
}


def columns_of(**change: object) -> EncryptedColumns:
    data = pack(COLUMNS_NAMESPACE, COLUMNS | change, [b"body"] * 4)
    return EncryptedColumns.from_bytes(data, sha256=digest(data))


def scores_of(**change: object) -> EncryptedScores:
    data = pack(SCORES_NAMESPACE, SCORES | change, [b"body"] * 2)
    return EncryptedScores.from_bytes(data, sha256=digest(data))


def test_a_good_header_is_read():
    assert columns_of().bounds == (1.0, 2.5)
    assert scores_of().factor == 2.5


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 2048},
        {"rows": 0},
        {"rows": 2049.0},
        {"rows": 1 << 27},
        {"bounds": []},
        {"bounds": ["1.0"]},
        {"bounds": ["1.0", "0.0"]},
        {"bounds": ["1.0", "-2.5"]},
        {"bounds": ["1.0", "2.50"]},
        {"bounds": ["1.0", "inf"]},
        {"bounds": "12"},
        {"bounds": ["1.0"] * 5000},
        {"key": 5},
        {"packing": "paired", "rows": 4096},
        {"packing": None},
        {"more": 1},
        {"parameters": Parameters(4096, (60, 49), 20, 20).to_json()},
        {"parameters": LINEAR.to_json() | {"prime_bits": [60, 60]}},
        {"parameters": None},
    ],
)
def test_a_header_of_columns_that_cannot_be_is_refused(change: dict[str, object]):
    with pytest.raises((ColumnsError, SealedBytesError, ParametersError)):
        columns_of(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "label"},
        {"link": "probit"},
        {"factor": "0.0"},
        {"factor": "nan"},
        {"factor": 2.5},
        {"rows": 4097},
        {"key": None},
        {"packing": "double"},
        {"parameters": {}},
    ],
)
def test_a_header_of_scores_that_cannot_be_is_refused(change: dict[str, object]):
    with pytest.raises(PrivacyError):
        scores_of(**change)


def test_columns_are_no_scores():
    data = pack(COLUMNS_NAMESPACE, COLUMNS, [b"body"] * 4)
    with pytest.raises(SealedBytesError, match=SCORES_NAMESPACE):
        EncryptedScores.from_bytes(data, sha256=digest(data))
    assert json.loads(data.split(b"\n")[1])["rows"] == 2049
