"""What is refused before the sidecar's program is started, and what is handed to it."""

import hashlib
import re
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.errors import (
    IdsError,
    SidecarError,
    SidecarMissingError,
    WorkerDiedError,
)
from federated.sidecar import installation, worker
from federated.sidecar.intersection import (
    DIGEST_BYTES,
    Meeting,
    Sidecar,
    as_csv,
    check_ids,
    digest_ids,
    read_places,
)
from federated.sidecar.link_key import LinkKey, read_certificate
from federated.sidecar.settings import LOOPBACK, SidecarSettings

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ADDRESSES = (f"{LOOPBACK}:7001", f"{LOOPBACK}:7002")
MEETING = Meeting(0, ADDRESSES, b"job:1")


@pytest.fixture(scope="module")
def keys() -> tuple[LinkKey, LinkKey]:
    return LinkKey.make(now=NOW), LinkKey.make(now=NOW)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "0 ids"),
        (["a", "secret-b", "secret-b"], "place 2 occurs twice"),
        (["a", ""], "place 1 is empty"),
        (["secret\nid", "b"], "place 0"),
        (["a", "secret\rid"], "place 1"),
    ],
)
def test_what_is_no_set_of_ids_is_refused_by_its_place(ids: list[str], message: str):
    with pytest.raises(IdsError, match=message) as refused:
        check_ids(ids)
    assert "secret" not in str(refused.value)


def test_any_text_of_one_line_is_an_id():
    check_ids(["a", " a", "a,b", '"a"', "é", "身份", "a\tb", "\u200b"])


def test_text_that_cannot_be_written_is_refused_by_its_place():
    with pytest.raises(IdsError, match="place 1"):
        digest_ids(["a", "\ud800"], b"")


def test_what_the_program_gets_is_not_an_id_and_says_nothing_of_their_order():
    ids = [f"id-{number}" for number in range(100)]
    digests = digest_ids(ids, b"job:1")
    header, *lines = as_csv(digests).splitlines()
    assert header == b"id"
    assert not any(each.encode() in as_csv(digests) for each in ids)
    known = {bytes(row) for row in digests}
    # One element more than ids: it is random, and hides the hash of the whole set.
    added = [line for line in lines if b64decode(line) not in known]
    again = as_csv(digest_ids(ids[::-1], b"job:1")).splitlines()[1:]
    assert (len(lines), len(added)) == (101, 1)
    assert [line for line in lines if line in again] == [line for line in again if line in lines]
    assert len(set(lines) & set(again)) == 100


def test_another_context_gives_digests_that_never_match():
    ids = [f"id-{number}" for number in range(50)]
    first, second = (digest_ids(ids, context) for context in (b"job:1", b"job:2"))
    assert not {bytes(row) for row in first} & {bytes(row) for row in second}
    assert (first == digest_ids(ids, b"job:1")).all()


def test_the_digest_is_pinned():
    start = hashlib.sha256(
        b"rongshu/sidecar/intersection/v1" + hashlib.sha256(b"job:1").digest()
    ).digest()
    expected = hashlib.sha256(start + b"id-0").digest()[:DIGEST_BYTES]
    assert bytes(digest_ids(["id-0"], b"job:1")[0]) == expected


@given(st.sets(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)), st.data())
def test_found_lines_lead_back_to_their_places(ids: set[str], data: st.DataObject):
    own = [*sorted(ids), "one"] if "one" not in ids else sorted(ids)
    shared = data.draw(st.sets(st.sampled_from(range(len(own)))))
    digests = digest_ids(own, b"c")
    known = {bytes(digests[place]) for place in shared}
    lines = as_csv(digests).splitlines()
    found = [line for line in lines[1:] if b64decode(line) in known]
    assert read_places(digests, b'"id"\n' + b"\n".join(found)) == tuple(sorted(shared))


def test_ids_whose_digests_begin_alike_are_told_apart_by_the_rest():
    digests = digest_ids(["a", "b", "c"], b"")
    digests[1, :8] = digests[0, :8]
    lines = as_csv(digests).splitlines()
    (line,) = (line for line in lines[1:] if b64decode(line) == bytes(digests[1]))
    assert read_places(digests, b"id\n" + line + b"\n") == (1,)


@pytest.mark.parametrize(
    "found",
    [b"", b"other\n", b"id\nAAAA\n", b"id\n" + b"A" * 24 + b"\n", b"id\n" + b"!" * 24 + b"\n"],
)
def test_an_answer_that_is_no_part_of_the_ids_is_refused(found: bytes):
    with pytest.raises(WorkerDiedError):
        read_places(digest_ids(["a", "b"], b""), found)


def test_an_empty_answer_is_an_empty_intersection():
    assert read_places(digest_ids(["a", "b"], b""), b'"id"\n') == ()


@pytest.mark.parametrize(
    "address", ["192.0.2.7:7002", "127.0.0.2:7002", "localhost:7002", ":7002", "0.0.0.0:7002"]
)
def test_an_address_that_the_operator_did_not_name_is_refused(
    address: str, tmp_path: Path, keys: tuple[LinkKey, LinkKey]
):
    sidecar = Sidecar(SidecarSettings(tmp_path / "none"))
    meeting = Meeting(0, (ADDRESSES[0], address), b"")
    with pytest.raises(SidecarError, match="RONGSHU_SIDECAR_HOSTS"):
        sidecar.intersect(["a"], meeting, keys[0], keys[1].certificate)


def test_an_address_that_the_operator_named_gets_as_far_as_the_missing_sidecar(
    tmp_path: Path, keys: tuple[LinkKey, LinkKey]
):
    settings = SidecarSettings(tmp_path / "none", hosts=(LOOPBACK, "192.0.2.7"))
    meeting = Meeting(0, (ADDRESSES[0], "192.0.2.7:7002"), b"")
    with pytest.raises(SidecarMissingError):
        Sidecar(settings).intersect(["a"], meeting, keys[0], keys[1].certificate)
    assert Sidecar(settings).available() is None
    assert not (tmp_path / "none").exists()


def test_ids_are_refused_before_anything_else(tmp_path: Path, keys: tuple[LinkKey, LinkKey]):
    with pytest.raises(IdsError):
        Sidecar(SidecarSettings(tmp_path)).intersect(["a", "a"], MEETING, keys[0], b"")


def test_a_party_that_shows_our_own_certificate_is_refused(
    tmp_path: Path, keys: tuple[LinkKey, LinkKey]
):
    with pytest.raises(SidecarError, match="own"):
        Sidecar(SidecarSettings(tmp_path)).intersect(["a"], MEETING, keys[0], keys[0].certificate)


@pytest.mark.parametrize(
    "changed",
    [
        {"rank": 2},
        {"receivers": 2},
        {"addresses": (ADDRESSES[0], ADDRESSES[0])},
        {"addresses": (ADDRESSES[0], "127.0.0.1")},
        {"addresses": (ADDRESSES[0], "127.0.0.1:80")},
        {"addresses": (ADDRESSES[0], "127.0.0.1:70000")},
        {"addresses": (ADDRESSES[0], "127.0.0.1:-7002")},
    ],
)
def test_a_meeting_that_cannot_be_meant_is_refused(changed: dict[str, object]):
    meant: dict[str, object] = {"rank": 0, "addresses": ADDRESSES, "context": b""}
    assert Meeting(**meant).receives
    with pytest.raises(SidecarError):
        Meeting(**(meant | changed))


def test_who_receives_follows_from_rank_and_receivers():
    assert [Meeting(rank, ADDRESSES, b"", 1).receives for rank in (0, 1)] == [False, True]
    assert [Meeting(rank, ADDRESSES, b"", 0).receives for rank in (0, 1)] == [True, False]
    assert [Meeting(rank, ADDRESSES, b"").receives for rank in (0, 1)] == [True, True]


def test_a_certificate_is_taken_alone_and_nothing_else_is(keys: tuple[LinkKey, LinkKey]):
    one, two = (key.certificate for key in keys)
    assert read_certificate(one) == one
    for other in (b"", b"no certificate", one + two, one + b"\n" * 5000, keys[0].private):
        with pytest.raises(SidecarError):
            read_certificate(other)


def test_a_private_key_stands_in_no_repr(keys: tuple[LinkKey, LinkKey]):
    assert b"PRIVATE" in keys[0].private
    assert "PRIVATE" not in repr(keys[0])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"ids": 7}, None),
        ({"spu": "0.9.4"}, "other_version"),
        ({"format": 2}, "other_version"),
        ({"context": "y"}, "peer_disagrees"),
        ({"both": False}, "peer_disagrees"),
        ({"receiver": 1}, "peer_disagrees"),
    ],
)
def test_the_program_goes_on_only_where_both_mean_the_same(
    changed: dict[str, object], reason: str | None
):
    own = {"format": 1, "spu": "0.9.5", "context": "x", "receiver": 0, "both": True, "ids": 5}
    assert worker.disagreement(own, own | changed) == reason


def test_program_and_caller_say_the_same_format():
    assert worker.FORMAT == installation.FORMAT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOSTS", "224.0.0.1"),
        ("HOSTS", "example.org"),
        ("HOSTS", "127.0.0.1,"),
        ("SECONDS", "0"),
        ("SECONDS", "1.5"),
        ("PEER_SECONDS", "-1"),
        ("MEMORY_MB", "100"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(f"RONGSHU_SIDECAR_{name}", value)
    with pytest.raises(SidecarError, match=f"RONGSHU_SIDECAR_{name}"):
        SidecarSettings.load()


def test_settings_come_from_the_environment_and_a_folder_given_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("RONGSHU_SIDECAR_FOLDER", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("RONGSHU_SIDECAR_HOSTS", "127.0.0.1, 192.0.2.7")
    monkeypatch.setenv("RONGSHU_SIDECAR_MEMORY_MB", "4096")
    settings = SidecarSettings.load()
    assert settings.folder == tmp_path / "rongshu" / "sidecar" / "spu"
    assert settings.hosts == ("127.0.0.1", "192.0.2.7")
    assert settings.memory_mb == 4096
    assert SidecarSettings.load(Path("elsewhere")).folder == Path("elsewhere")
    monkeypatch.setenv("RONGSHU_SIDECAR_FOLDER", "named")
    assert SidecarSettings.load().folder == Path("named")
    monkeypatch.delenv("RONGSHU_SIDECAR_FOLDER")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert SidecarSettings.load().folder.is_absolute()


def test_every_variable_stands_on_the_page_for_operators():
    page = (Path(__file__).parents[2] / "docs/how-to/sidecar.md").read_text("utf-8")
    fields = {"FOLDER", *(name.upper() for name in SidecarSettings.__dataclass_fields__)}
    assert set(re.findall(r"RONGSHU_SIDECAR_([A-Z_]+)", page)) == fields
