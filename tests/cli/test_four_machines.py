"""The page on four machines is followed to its answer: each machine a folder, all over TLS.

A block of the page names the machines on which it is run, and whether its program stays:
"```sh market stays". Names stand for folders; `scp` copies between them.
"""

import configparser
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from marketplace.cli.serve import address_at
from tests.cli.test_help import parses
from tests.cli.test_serve_howto import PAGES, make_shim
from tests.deployed import until
from tests.served import environment

PAGE = PAGES / "four-machines.md"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - tests listen on loopback
MACHINES = ("market", "basel", "bern", "zurich", "lab")
SCP = """\
#!/bin/sh
for target; do :; done
for file; do
    [ "$file" = "$target" ] || cp "$file" "$TOWN/${target%%:*}/"
done
"""


class Block(NamedTuple):
    """Commands, where they are run, and whether the last one stays."""

    machines: tuple[str, ...]
    stays: bool
    text: str


def blocks() -> list[Block]:
    found = re.findall(r"^```sh ([a-z ]+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [
        Block(tuple(n for n in words.split() if n != "stays"), "stays" in words.split(), text)
        for words, text in found
    ]


@dataclass
class Machines:
    """Folders that stand for machines, and what runs on them."""

    folder: Path
    port: int
    running: ExitStack = field(default_factory=ExitStack)

    def text_on(self, block: Block, machine: str) -> str:
        text = block.text
        for written in ("market.example.org", EVERYWHERE):
            text = text.replace(written, "127.0.0.1")
        text = text.replace("8448", str(self.port))
        if machine in block.machines[1:]:
            first = block.machines[0]
            text = text.replace(first, machine).replace(first.title(), machine.title())
        return text

    def values(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}:{environment()['PATH']}"
        mine = {"PATH": path, "TOWN": str(self.folder), "RONGSHU_PORT": str(self.port)}
        return {**environment(), **mine}

    def run(self, text: str, machine: str) -> str:
        ran = subprocess.run(
            ["/bin/sh", "-eu", "-c", text],
            cwd=self.folder / machine,
            env=self.values(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == 0, f"{machine}: {text}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def start(self, text: str, machine: str, sign: str) -> None:
        """Start what stays in its terminal, and wait until it says that it is there."""
        self.running.enter_context(self._kept(text, machine, sign))

    @contextmanager
    def _kept(self, text: str, machine: str, sign: str) -> Iterator[None]:
        log = self.folder / f"{machine}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-eu", "-c", f"exec env {text}"],
                cwd=self.folder / machine,
                env=self.values(),
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: sign in log.read_text() or process.poll() is not None, sign)
            assert process.poll() is None, log.read_text()
            yield
            # Ctrl-C, as the page says.
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    make_shim(tmp_path / "bin" / "rongshu")
    scp = tmp_path / "bin" / "scp"
    scp.write_text(SCP)
    scp.chmod(0o755)
    for name in MACHINES:
        (tmp_path / name).mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Machines(tmp_path, port)
    with made.running:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_machines_come_from_nothing_to_an_answer(machines: Machines):
    told = dict.fromkeys(MACHINES, "")
    for block in blocks():
        for machine in block.machines:
            text = machines.text_on(block, machine)
            if block.stays:
                machines.start(text, machine, "Ctrl-C" if machine == "market" else "connected")
            else:
                told[machine] += machines.run(text, machine)
    assert "checked here: " in told["lab"]
    # Six rows each, one of which has no cholesterol.
    assert '"count": 18' in told["lab"]
    assert '"count": 15' in told["lab"]
    for name in ("basel", "bern", "zurich"):
        assert "completed" in told[name]
        folder = machines.folder / name
        # The keys and the data of each are where they were made, and nowhere else.
        key = (folder / "nodes" / "hearts" / "node.key").read_bytes()
        others = [
            path
            for path in machines.folder.rglob("*")
            if path.is_file() and path.name != "hearts.csv" and name not in path.parts
        ]
        for data in (key, (folder / "hearts.csv").read_bytes()):
            assert not any(data in path.read_bytes() for path in others)
    tls = machines.folder / "market" / "data" / "tls"
    assert {path.name for path in tls.iterdir()} == {"ca.key", "ca.pem", "server.key", "server.pem"}


def test_every_machine_of_the_page_has_its_blocks():
    found = blocks()
    assert {name for block in found for name in block.machines} == set(MACHINES)
    assert [block.machines for block in found if block.stays] == [
        ("market",),
        ("basel", "bern", "zurich"),
    ]
    # Whatever else stands in a block of its own is for a reader's eyes.
    others = set(re.findall(r"^```([a-z ]*)$", PAGE.read_text(), re.MULTILINE))
    assert others - {"", "text"} == {" ".join(["sh", *_named(block)]) for block in found}


def _named(block: Block) -> list[str]:
    return [*block.machines, "stays"] if block.stays else list(block.machines)


def test_every_command_of_the_page_is_one_that_exists():
    seen = 0
    for block in blocks():
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.partition(" > ")[0])
            if words[0].startswith("RONGSHU_"):
                words = words[1:]
            if words[0] == "rongshu":
                parses(words[1], words[2:])
                seen += 1
    assert seen > 20


@pytest.mark.parametrize("name", ["rongshu.service", "rongshu-node@.service"])
def test_a_unit_starts_a_command_that_exists_and_keeps_it_in_bounds(name: str):
    unit = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((PAGES / "systemd" / name).read_text())
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/rongshu")
    parses(words[0], words[1:])
    folder = f"/var/lib/{service['StateDirectory']}"
    assert any(word.startswith(folder) for word in words)
    assert service["Restart"] == "always"
    for option in ("NoNewPrivileges", "ProtectHome", "PrivateTmp"):
        assert service[option] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["UMask"] == "0077"
    # Longer than the half minute that a job under way is given.
    assert int(service["TimeoutStopSec"]) > 40
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert name in PAGE.read_text()


@pytest.mark.parametrize(
    ("host", "scheme", "address"),
    [
        ("127.0.0.1", "http", "http://127.0.0.1:8448"),
        (EVERYWHERE, "https", "https://127.0.0.1:8448"),
        ("::", "https", "https://[::1]:8448"),
        ("10.0.0.7", "https", "https://10.0.0.7:8448"),
        ("fd00::7", "http", "http://[fd00::7]:8448"),
    ],
)
def test_a_service_that_listens_everywhere_is_reached_over_loopback(
    host: str, scheme: str, address: str
):
    """Guards: the address in the folder was one that no certificate holds."""
    assert address_at(host, 8448, tls=scheme == "https") == address
