import hashlib
from pathlib import Path
from unittest.mock import Mock, patch

import pytest

from ledger.errors import StateError
from ledger.merkle import leaf_hash
from ledger.mirror import LOCK, STATE, Mirror

ID = "offer:" + "ab" * 32


def filled(folder: Path) -> Path:
    with Mirror(folder) as mirror:
        mirror.append(b"first", leaf_hash(b"first"), b"opened")
        mirror.append(b"second", leaf_hash(b"second"))
        mirror.record(ID)
        mirror.commit({"word": 1})
    return folder


def test_what_was_committed_is_there_again(tmp_path: Path):
    with Mirror(filled(tmp_path)) as mirror:
        assert (mirror.size, mirror.replayed, mirror.remembered) == (2, 1, {"word": 1})
        assert mirror.read(0) == (b"first", b"opened")
        assert mirror.read(1) == (b"second", b"")
        assert (mirror.is_open(0), mirror.is_open(1)) == (True, False)
        assert list(mirror.ids()) == [ID]
        assert list(mirror.leaves(0, 2)) == [leaf_hash(b"first"), leaf_hash(b"second")]
        mirror.record()
        assert list(mirror.ids()) == [ID, None]


def test_what_was_not_committed_is_gone(tmp_path: Path):
    with Mirror(filled(tmp_path)) as mirror:
        mirror.append(b"third", leaf_hash(b"third"), b"opened")
        assert mirror.read(2) == (b"third", b"opened")
    with Mirror(tmp_path) as mirror:
        assert mirror.size == 2
        mirror.append(b"third", leaf_hash(b"third"))
        mirror.rollback()
        assert (mirror.size, mirror.read(1)) == (2, (b"second", b""))
        mirror.append(b"other", leaf_hash(b"other"))
        mirror.commit({})
    with Mirror(tmp_path) as mirror:
        assert mirror.read(2) == (b"other", b"")


@pytest.mark.parametrize("name", ["entries", "openings", "index", "ids"])
@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
def test_damage_is_noticed(tmp_path: Path, name: str, how: str):
    path = filled(tmp_path) / name
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:-1])
    else:
        data[2] ^= 1
        path.write_bytes(data)
    with pytest.raises(StateError, match="Move the folder away"), Mirror(tmp_path) as mirror:
        mirror.read(0)


@pytest.mark.parametrize("change", [b"", b"other/v1\n{}\n", b"rongshu/monitor-state/v1\n{}\nab\n"])
def test_a_damaged_state_file_is_noticed(tmp_path: Path, change: bytes):
    (filled(tmp_path) / STATE).write_bytes(change)
    with pytest.raises(StateError, match=STATE):
        Mirror(tmp_path)


def test_a_lost_memory_is_noticed_where_a_checkpoint_shows_it(tmp_path: Path):
    (filled(tmp_path) / STATE).unlink()
    with Mirror(tmp_path) as mirror:
        assert mirror.size == 0  # nothing but remains of a first run that did not end
    (tmp_path / "checkpoint").write_text("signed")
    with pytest.raises(StateError, match="is missing"):
        Mirror(tmp_path)


def test_the_state_file_is_tied_to_all_others(tmp_path: Path):
    path = filled(tmp_path) / STATE
    heading, body, check, _ = path.read_bytes().split(b"\n")
    assert hashlib.sha256(body).hexdigest().encode() == check
    changed = body.replace(b'"index":144', b'"index":72')
    assert changed != body
    lines = (heading, changed, hashlib.sha256(changed).hexdigest().encode(), b"")
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(StateError, match="index is not what was written"):
        Mirror(tmp_path)


def test_one_process_at_a_time(tmp_path: Path):
    with Mirror(tmp_path), pytest.raises(StateError, match="in use"):
        Mirror(tmp_path)
    with Mirror(tmp_path):
        pass


def test_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path):
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match="chmod go-w"):
        Mirror(tmp_path)
    tmp_path.chmod(0o700)
    (tmp_path / "new").mkdir()
    with Mirror(tmp_path / "made" / "here"):
        assert (tmp_path / "made" / "here").stat().st_mode & 0o777 == 0o700


def test_files_in_the_way_are_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"):
        Mirror(tmp_path / "file")
    folder = filled(tmp_path / "state")
    (folder / "index").unlink()
    (folder / "index").symlink_to(folder / "entries")
    with pytest.raises(StateError, match="index"):
        Mirror(folder)
    (folder / LOCK).unlink()
    (folder / LOCK).mkdir()
    with pytest.raises(StateError, match="directory"):
        Mirror(folder)


def test_a_full_disk_loses_nothing(tmp_path: Path):
    full = OSError(28, "No space left on device")
    with Mirror(filled(tmp_path)) as mirror:
        mirror.append(b"third", leaf_hash(b"third"))
        with (
            patch("ledger.mirror.durable.replace", side_effect=full),
            pytest.raises(StateError, match="No space left"),
        ):
            mirror.commit({"word": 2})
        mirror.rollback()
        file = mirror._files["entries"]
        broken = patch.dict(mirror._files, {"entries": Mock(write=Mock(side_effect=full))})
        with broken, pytest.raises(StateError, match="No space left"):
            mirror.append(b"third", leaf_hash(b"third"))
        assert mirror._files["entries"] is file
    with Mirror(tmp_path) as mirror:
        assert (mirror.size, mirror.remembered) == (2, {"word": 1})
