"""The log on a PostgreSQL server that has no room left: real, on a small disk of its own.

Where the tables do not fit, the server refuses the transaction. Where its write-ahead log does not,
it ends at once, with every connection, and does not come back before there is room.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from ledger import store
from ledger.errors import LogError
from ledger.sequencer import Ticket
from ledger.statements import read
from marketplace.database import make_engine
from tests.drafts import Party, key_of
from tests.world import World

SYSTEM_USER = "postgres"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "20",
    # Never used again: the write-ahead log must need room.
    "max_wal_size": "1GB",
    "min_wal_size": "2MB",
    "shared_buffers": "2MB",
}


class Server:
    """A server of this test's own, with its tables or its write-ahead log on a disk of 40 MB."""

    def __init__(self, folder: Path, *, small: str) -> None:
        places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not places or os.geteuid() != 0:
            pytest.skip("only root can start a PostgreSQL server on a disk of its own")
        self.binaries, self.folder = places[-1], folder
        self.disk = folder / small
        folder.chmod(0o755)
        for place in ("tables", "log", "socket"):
            (folder / place).mkdir()
            shutil.chown(folder / place, SYSTEM_USER, SYSTEM_USER)
        options = f"size=40m,mode=700,uid={SYSTEM_USER},gid={SYSTEM_USER}"
        mount = ["/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("this machine does not let its root mount a disk")

    def _run(self, program: str, *options: str) -> int:
        command = [str(self.binaries / program), *options]
        done = subprocess.run(
            command,
            user=SYSTEM_USER,
            group=SYSTEM_USER,
            extra_groups=[],
            cwd="/",
            stdout=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode

    def make(self) -> None:
        """Make the server's files, and start it."""
        data, log = self.folder / "tables" / "data", self.folder / "log" / "wal"
        made = self._run(
            "initdb", "--no-sync", "--auth=trust", "--username=root", "--wal-segsize=1",
            f"--pgdata={data}", f"--waldir={log}",
        )  # fmt: skip
        assert made == 0
        self.start()

    def start(self) -> None:
        """Start the server, if it does not run."""
        data = str(self.folder / "tables" / "data")
        if self._run("pg_ctl", "--pgdata", data, "status") == 0:
            return
        settings = SETTINGS | {"unix_socket_directories": str(self.folder / "socket")}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        output = str(self.folder / "socket" / "output")
        started = self._run(
            "pg_ctl", "--pgdata", data, "--log", output, "--options", options, "--wait", "start"
        )
        assert started == 0

    def end(self) -> None:
        """Stop the server, and give the disk back."""
        self._run("pg_ctl", "--pgdata", str(self.folder / "tables" / "data"), "-m", "fast", "stop")
        subprocess.run(["/bin/umount", str(self.disk)], check=True)

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"postgresql:///postgres?host={self.folder / 'socket'}"

    @contextmanager
    def full(self, room: int = 1 << 20) -> Iterator[None]:
        """Leave hardly any room on the small disk."""
        ballast = self.disk / "ballast"
        space = os.statvfs(self.disk)
        ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - room))
        try:
            yield
        finally:
            ballast.unlink()


@pytest.fixture(name="server", params=["tables", "log"])
def _server(request: pytest.FixtureRequest) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="rongshu-server-"))
    try:
        server = Server(folder, small=request.param)
        try:
            server.make()
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder)


def append_until_one_waits(world: World) -> dict[str, Ticket]:
    """Log newcomers, a hundred at a time, until the last of them is not acknowledged."""
    tickets = {}
    for turn in range(100):
        for number in range(100):
            party = Party(name := f"n{turn}-{number}.example", key_of(name))
            envelope = world.participant(party, "auditor").sign(party.key)
            ticket = tickets[read(envelope).id] = world.log.enqueue(envelope)
        try:
            ticket.wait(2)
        except LogError:
            return tickets
    raise AssertionError


def acknowledged(tickets: Iterable[Ticket]) -> list[int]:
    """Which indexes producers were told by now."""
    told = []
    for ticket in tickets:
        with suppress(LogError):
            told.append(ticket.wait(0))
    return told


@pytest.mark.slow
def test_a_server_without_room_loses_nothing_that_was_acknowledged(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    engine = make_engine(server.url)
    store.metadata.create_all(engine)
    world = World(tmp_path / "world", 1, engine=engine)
    size = world.log.size
    world.log.start()
    try:
        with patch("ledger.log.RETRY", 0.05):
            with server.full():
                tickets = append_until_one_waits(world)
                told, shown = len(acknowledged(tickets.values())), world.log.size
            assert 0 < told <= shown - size < len(tickets)
            server.start()
            indexes = {name: ticket.wait(30) for name, ticket in tickets.items()}
    finally:
        world.log.stop()
    assert "the log cannot store entries: " in caplog.messages[0]
    assert caplog.messages[-1] == "the log stores entries again"
    # Each once, in the order in which they were handed over.
    assert list(indexes.values()) == list(range(size, size + len(tickets)))
    world.log = world.open_log()
    assert {name: world.log.index_of(name) for name in indexes} == indexes
    assert world.audit().status == "sound"
    engine.dispose()
