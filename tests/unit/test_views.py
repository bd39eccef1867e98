"""Views: one key opens what rests on one agreement in one epoch, and nothing else."""

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ledger.encoding import canonical, parse
from ledger.entry import Entry, Opening, commitment
from ledger.errors import EntryError, EvidenceError, InvalidKeyError, LedgerError, ViewError
from ledger.statements import Schedule
from ledger.views import (
    NO_AGREEMENT,
    SMALLEST_BUCKET,
    Named,
    Sealed,
    View,
    Views,
    _box_context,
    _wrap_context,
    open_sealed,
    seal,
    views_of,
)
from tests.world import LOG_NAME, World

KEYS = [View(Named(5, 2), bytes([1]) * 32), View(Named(9, 2), bytes([2]) * 32)]
BOTH = Views(LOG_NAME, {view.named: view.key for view in KEYS})


def views(*chosen: View) -> Views:
    return Views(LOG_NAME, {view.named: view.key for view in chosen})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_every_kind(tmp_path_factory.mktemp("world"), providers=2)


@pytest.fixture(scope="module")
def job(world: World) -> tuple[Entry, Opening]:
    assert world.use is not None
    index = world.log.index_of(world.use.job)
    return world.entries()[index], world.log.opening(index)


@pytest.fixture(scope="module")
def line(job: tuple[Entry, Opening]) -> bytes:
    return seal(*job, KEYS)


@pytest.mark.parametrize("held", [KEYS, KEYS[:1], KEYS[1:], [*KEYS, View(Named(1, 0), bytes(32))]])
def test_each_view_opens_it(job: tuple[Entry, Opening], line: bytes, held: list[View]):
    assert open_sealed(line, job[0], views(*held)) == job[1]


def test_a_line_is_read_back_as_it_was_written(line: bytes):
    assert Sealed.from_bytes(line).to_bytes() == line
    assert Sealed.from_bytes(line).views == (Named(5, 2), Named(9, 2))


def test_two_lines_of_one_opening_share_nothing_secret(job: tuple[Entry, Opening], line: bytes):
    first, second = Sealed.from_bytes(line), Sealed.from_bytes(seal(*job, KEYS))
    assert first.box != second.box
    assert all(a[1] != b[1] for a, b in zip(first.wraps, second.wraps, strict=True))
    assert job[1].salt not in first.box


@pytest.mark.parametrize("held", [[], [View(Named(5, 1), KEYS[0].key)], [View(Named(6, 2), b"k")]])
def test_no_view_of_it_leaves_it_sealed(job: tuple[Entry, Opening], line: bytes, held: list[View]):
    with pytest.raises(EvidenceError, match="is in none of these views"):
        open_sealed(line, job[0], views(*held))


def test_a_wrong_key_is_refused(job: tuple[Entry, Opening], line: bytes):
    with pytest.raises(ViewError, match="the view key does not open it"):
        open_sealed(line, job[0], views(replace(KEYS[0], key=KEYS[1].key)))


@pytest.mark.parametrize("named", [Named(5, 3), Named(9, 2)])
def test_a_wrap_of_another_epoch_or_agreement_is_refused(
    job: tuple[Entry, Opening], line: bytes, named: Named
):
    sealed = Sealed.from_bytes(line)
    moved = replace(sealed, wraps=((named, sealed.wraps[0][1]),)).to_bytes()
    with pytest.raises(ViewError, match="does not open"):
        open_sealed(moved, job[0], views(View(named, KEYS[0].key)))


def test_the_line_of_another_entry_is_refused(world: World, line: bytes):
    entries, sealed = world.entries(), Sealed.from_bytes(line)
    other = entries[sealed.index + 1]
    with pytest.raises(EntryError, match="used for entry"):
        open_sealed(line, other, BOTH)
    with pytest.raises(ViewError, match="does not open"):
        replace(sealed, index=other.index).open(other, BOTH)


def test_an_entry_of_the_same_index_in_another_log_is_refused(
    job: tuple[Entry, Opening], line: bytes
):
    with pytest.raises(ViewError, match="does not open"):
        open_sealed(line, replace(job[0], commitment=bytes(32)), BOTH)


@pytest.mark.parametrize(
    "lie",
    [
        lambda text: text[:-1] + b"x",
        lambda text: text + bytes(len(text)),
        lambda text: (len(text)).to_bytes(4, "big") + text[4:],
        lambda text: (1).to_bytes(4, "big") + text[4:],
    ],
)
def test_a_box_that_is_padded_otherwise_is_refused(
    job: tuple[Entry, Opening], line: bytes, lie: Callable[[bytes], bytes]
):
    entry, sealed = job[0], Sealed.from_bytes(line)
    named, wrap = sealed.wraps[0]
    key = ChaCha20Poly1305(KEYS[0].key).decrypt(wrap[:12], wrap[12:], _wrap_context(entry, named))
    text = ChaCha20Poly1305(key).decrypt(bytes(12), sealed.box, _box_context(entry))
    box = ChaCha20Poly1305(key).encrypt(bytes(12), lie(text), _box_context(entry))
    with pytest.raises(EntryError, match="is padded wrongly"):
        replace(sealed, box=box).open(entry, BOTH)


def test_more_view_keys_than_any_log_has_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ledger.views.MAX_VIEWS", 3)
    with pytest.raises(ViewError, match="more than 3 view keys"):
        Views.from_bytes(GOOD)


def test_every_changed_byte_is_refused(job: tuple[Entry, Opening]):
    # One view: with two, damage to one wrap leaves the other to open it.
    line, opened = seal(*job, KEYS[:1]), 0
    for position in (*range(0, len(line), 97), *range(len(line) - 200, len(line))):
        changed = bytearray(line)
        changed[position] ^= 1
        try:
            opened += open_sealed(bytes(changed), job[0], BOTH) == job[1]
        except LedgerError:
            continue
    assert opened == 0


def test_what_opens_to_something_else_than_was_committed_is_refused(
    job: tuple[Entry, Opening],
):
    entry, opening = job
    forged = replace(opening, salt=bytes(32))
    lying = replace(entry, commitment=commitment(forged.salt, forged.envelope))
    sealed = Sealed.from_bytes(seal(lying, forged, KEYS))
    assert sealed.open(lying, BOTH) == forged
    with pytest.raises(EntryError, match="does not match the commitment"):
        seal(entry, forged, KEYS)


@pytest.mark.parametrize("length", [1, 1199, SMALLEST_BUCKET - 36])
def test_lengths_within_a_bucket_look_alike(length: int):
    assert _padded(length) == SMALLEST_BUCKET


@pytest.mark.parametrize(
    ("length", "size"),
    [(SMALLEST_BUCKET - 35, 8192), (8192 - 36, 8192), (8192 - 35, 16384), (1 << 20, 1 << 21)],
)
def test_longer_ones_show_the_power_of_two_they_fit_in(length: int, size: int):
    assert _padded(length) == size


def _padded(length: int) -> int:
    from ledger.views import _bucket

    return _bucket(length)


@pytest.mark.parametrize(
    "change",
    [
        {"wraps": []},
        {"extra": 1},
        {"index": -1},
        {"index": True},
        {"box": "AAAA"},
        {"box": "!"},
        {"box": 7},
        {"wraps": [{"agreement": 5, "epoch": 2, "key": "AAAA"}]},
        {"wraps": [{"agreement": 5, "epoch": 2}]},
        {"wraps": 3},
    ],
)
def test_a_malformed_line_is_refused(line: bytes, change: dict[str, object]):
    with pytest.raises(EntryError):
        Sealed.from_bytes(canonical(parse(line) | change))


@pytest.mark.parametrize("order", ["twice", "backwards", "epochs"])
def test_wraps_in_another_order_or_of_several_epochs_are_refused(line: bytes, order: str):
    sealed = Sealed.from_bytes(line)
    first, second = sealed.wraps
    wraps = {
        "twice": (first, first),
        "backwards": (second, first),
        "epochs": (first, (Named(9, 3), second[1])),
    }[order]
    with pytest.raises(EntryError, match="not in order, or of several epochs"):
        Sealed.from_bytes(replace(sealed, wraps=wraps).to_bytes())


def test_bytes_that_are_no_json_are_refused():
    with pytest.raises(EntryError, match="malformed sealed opening"):
        Sealed.from_bytes(b"{")


def test_an_entry_is_sealed_for_some_view(job: tuple[Entry, Opening]):
    with pytest.raises(EntryError, match="cannot be sealed for 0 views"):
        seal(*job, [])


def test_an_entry_belongs_to_the_views_of_its_agreements_in_its_epoch():
    assert views_of({9, 5}, 17, None) == (Named(5, 0), Named(9, 0))
    assert views_of({9, 5}, 17, Schedule(8, 32, 0)) == (Named(5, 2), Named(9, 2))
    assert views_of((), 17, Schedule(8, 32, 0)) == (Named(NO_AGREEMENT, 2),)


# The file of view keys.


def test_view_keys_are_kept_in_a_file_that_its_owner_alone_can_read(tmp_path: Path):
    path = tmp_path / "views"
    BOTH.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Views.load(path) == BOTH
    path.chmod(0o644)
    with pytest.raises(InvalidKeyError, match="others can reach it"):
        Views.load(path)
    with pytest.raises(InvalidKeyError, match="exists already"):
        BOTH.save(path)


def test_keys_stand_in_no_repr():
    for item in (BOTH, KEYS[0]):
        assert "key" not in repr(item)
        assert "\\x01" not in repr(item)


def test_a_view_of_what_rests_on_no_agreement_is_written_as_null():
    held = views(View(Named(NO_AGREEMENT, 1), bytes(32)))
    assert b'"agreement":null' in held.to_bytes()
    assert Views.from_bytes(held.to_bytes()) == held


GOOD = BOTH.to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:-1],
        GOOD.replace(b"/v1", b"/v2"),
        GOOD.replace(b"rongshu.example/log", b"two words"),
        GOOD.replace(b"rongshu.example/log", b"\xff"),
        GOOD.replace(b"rongshu.example/log", b""),
        GOOD.replace(b'"agreement":5', b'"agreement":9'),
        GOOD.replace(b'"agreement":5', b'"agreement":10'),
        GOOD.replace(b'"epoch":2', b'"epoch":02'),
        GOOD + b"\n",
        GOOD + b"{}\n",
    ],
)
def test_a_malformed_file_of_view_keys_is_refused_without_telling_a_key(data: bytes):
    with pytest.raises(ViewError) as caught:
        Views.from_bytes(data)
    assert "AQEB" not in str(caught.value)


def test_views_cover_an_entry_when_one_of_its_views_is_held():
    assert BOTH.cover([Named(1, 1), Named(9, 2)])
    assert not BOTH.cover([Named(9, 1)])
