"""Reading a folder that may hold anything: what does not belong is refused at once, unread."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger import folder as folders
from ledger.errors import EncodingError
from ledger.folder import Folder
from ledger.manifest import File

LIMIT = 100


@contextmanager
def quickly(seconds: float = 1) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    inner = tmp_path / "export"
    (inner / "a" / "b").mkdir(parents=True)
    (inner / "top").write_bytes(b"top")
    (inner / "a" / "one").write_bytes(b"one")
    (inner / "a" / "b" / "two").write_bytes(b"two")
    (tmp_path / "outside").write_bytes(b"outside")
    return inner


@pytest.fixture
def folder(path: Path) -> Iterator[Folder]:
    with Folder(path) as opened:
        yield opened


def test_files_are_read(folder: Folder):
    # Twice, and back and forth: the folder that was walked to last is kept open.
    for name in ("top", "a/one", "a/one", "a/b/two", "a/one", "top"):
        assert folder.read(name, LIMIT) == name.rpartition("/")[2].encode()
    assert folder.read("top", 3) == b"top"
    with pytest.raises(EncodingError, match="has 3 bytes, at most 2 belong"):
        folder.read("top", 2)


def test_a_listed_file_is_what_was_listed(folder: Folder):
    assert folder.read_listed(File.of("top", b"top")) == b"top"
    for other in (b"tip", b"to", b"topp"):
        with pytest.raises(EncodingError, match=r"differs from|at most 2 belong"):
            folder.read_listed(File.of("top", other))


@pytest.mark.parametrize("name", ["nothing", "a/nothing", "nothing/one", "top/one"])
def test_what_is_not_there_is_missed(folder: Folder, name: str):
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        folder.read(name, LIMIT)
    assert folder.read("a/one", LIMIT) == b"one"


@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../outside", "a/../top", "./top", "a//one", "/etc/hostname", "", "a/"],
)
def test_no_path_climbs_out(folder: Folder, name: str):
    with pytest.raises(EncodingError, match="is no path below the folder"):
        folder.read(name, LIMIT)


def test_no_link_is_followed(path: Path, folder: Folder):
    (path / "link").symlink_to(path.parent / "outside")
    (path / "linked").symlink_to(path / "a")
    (path / "a" / "linked").symlink_to(path / "a" / "b")
    for name in ("link", "linked", "linked/one", "a/linked/two"):
        with pytest.raises(EncodingError, match="is a link"):
            folder.read(name, LIMIT)
    # The folder itself may be reached through one: the auditor named it.
    (path.parent / "way").symlink_to(path)
    with Folder(path.parent / "way") as opened:
        assert opened.read("top", LIMIT) == b"top"


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_what_is_no_regular_file_is_not_read(path: Path, folder: Folder, kind: str):
    target = path / kind
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.relpath(target))
    else:
        try:
            os.mknod(target, 0o600 | 0o020000, os.makedev(1, 5))  # an endless file of zeros
        except PermissionError:
            pytest.skip("making a device needs privileges")
    with quickly(), pytest.raises(EncodingError, match="is no regular file"):
        folder.read(kind, LIMIT)


def test_a_file_that_changes_its_kind_after_the_look(
    path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    os.mkfifo(path / "pipe")
    regular = (path / "top").stat()
    monkeypatch.setattr(os, "stat", lambda *_args, **_more: regular)
    with quickly(), pytest.raises(EncodingError, match="is no regular file"):
        folder.read("pipe", LIMIT)


def test_a_file_that_grows_while_it_is_read(
    path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    small = (path / "top").stat()
    (path / "top").write_bytes(b"x" * 1000)
    monkeypatch.setattr(os, "fstat", lambda _descriptor: small)
    assert len(folder.read("top", 500)) == 501
    with pytest.raises(EncodingError, match="differs"):
        folder.read_listed(File.of("top", b"top"))


def test_ten_gigabytes_are_refused_unread(path: Path, folder: Folder):
    os.truncate(path / "top", 10_000_000_000)
    with quickly(), pytest.raises(EncodingError, match="at most 100 belong"):
        folder.read("top", LIMIT)


def test_what_is_not_listed_is_named(path: Path, folder: Folder):
    listed = {"top", "a/one", "a/b/two"}
    assert folder.unlisted(listed, 10) == []
    assert folder.unlisted({"top", "a/one"}, 10) == ["a/b/"]
    assert folder.unlisted({"top"}, 10) == ["a/"]
    assert folder.unlisted(set(), 10) == ["a/", "top"]
    assert len(folder.unlisted(set(), 1)) == 1
    (path / "link").symlink_to(path / "a")
    (path / "empty").mkdir()
    (path / os.fsdecode(b"\xff")).write_bytes(b"")
    (path / "a" / "b" / "two").unlink()
    assert folder.unlisted(listed, 10) == [r"\xff", "empty/", "link"]


class Item:
    """One of endlessly many unlisted files."""

    def __init__(self, number: int) -> None:
        self.name = f"file {number}"

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        assert not follow_symlinks
        return False


def test_endlessly_many_unlisted_files_end(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    seen = 0

    @contextmanager
    def endless(_descriptor: int) -> Iterator[Iterator[Item]]:
        def items() -> Iterator[Item]:
            nonlocal seen
            while True:
                seen += 1
                yield Item(seen)

        yield items()

    monkeypatch.setattr(folders.os, "scandir", endless)
    assert len(folder.unlisted({"top"}, 100)) == 100
    assert seen == 100


def test_a_folder_that_is_none(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "nothing"):
        with pytest.raises(OSError, match=name):
            Folder(tmp_path / name)


def test_every_descriptor_is_given_back(path: Path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with Folder(path) as opened:
            opened.read("a/b/two", LIMIT)
            with pytest.raises(FileNotFoundError):
                opened.read("a/c/two", LIMIT)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
