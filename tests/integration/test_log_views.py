"""Nodes that are shown a split, a stale or a restored log refuse to compute, each with its reason.

The market is a real one: its log is cosigned by two of three witnesses that listen on sockets, and
node 0 asks for their quorum, no older than ten minutes. Each refusal comes before the data file is
opened; each has a twin in which the same node, or one that was shown the truth, computes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from federated.errors import RefusedError
from federated.messages import KeysReply
from federated.node.home import NodeHome
from federated.node.runner import Node
from ledger.audit.witness_server import WitnessServer
from ledger.checkpoint import Checkpoint, open_checkpoint, sign
from ledger.client import PROOF_FILE
from ledger.cosignature import attach, cosign
from ledger.entry import Entry
from ledger.errors import CosigningError
from ledger.fork import open_fork
from ledger.keys import CosigningKey, SigningKey
from ledger.log import Log
from ledger.merkle import Tree, leaf_hash
from ledger.tiles import Tile, tile_bytes
from ledger.witness import Witness
from tests.stage import WATCH, Play, open_stage, terms, word
from tests.talk import Conversation

TABLES = {
    name: "chol,age\n" + "".join(f"{200 + at * 1.5},{40 + at}\n" for at in range(rows))
    for name, rows in (("basel", 30), ("bern", 26), ("geneva", 22))
}
LIMIT = 600
NAMES = ("north", "south", "west")


@dataclass
class Seen:
    """The market with its witnesses, and a checkpoint kept from earlier."""

    play: Play
    policy: Path
    keys: dict[str, CosigningKey]

    @property
    def log(self) -> Log:
        return self.play.market.app.state.context.log

    @property
    def log_key(self) -> SigningKey:
        return SigningKey.load(self.play.market._settings.log_key)

    def strict(self, at: int, **changes: Any) -> Node:
        """Reopen a node that asks for the quorum."""
        folder = self.play.nodes[at]._log._memory.parent
        home = NodeHome.load(folder)
        wanted: dict[str, Any] = {"policy": str(self.policy), "max_age_seconds": LIMIT}
        NodeHome(folder, replace(home.settings, **{**wanted, **changes}))._save()
        return self.play.reopened(at)

    def cosigned(self, signed: bytes) -> bytes:
        """A checkpoint with the lines of two witnesses that look at nothing."""
        now = self.play.clock() // 1000
        return attach(signed, [cosign(signed, self.keys[name], now) for name in NAMES[:2]])


@contextmanager
def listening(folder: Path, clock: Callable[[], int]) -> Iterator[list[str]]:
    """Three witnesses on sockets of their own; yields their addresses."""
    with ExitStack() as stack:
        urls = []
        for name in NAMES:
            witness = Witness(folder / name, clock)
            server = stack.enter_context(WitnessServer(("127.0.0.1", 0), witness, lambda _: None))
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            urls.append(f"http://127.0.0.1:{server.server_address[1]}")
        yield urls


@pytest.fixture(name="seen")
def _seen(tmp_path: Path) -> Iterator[Seen]:
    log_key = SigningKey.generate("rongshu.local/log")
    path = tmp_path / "market/service/keys/log/signing.key"
    path.parent.mkdir(parents=True)
    log_key.save(path)
    keys = {name: CosigningKey.generate(f"witness.example/{name}") for name in NAMES}
    clocks: list[Callable[[], int]] = []
    for name in NAMES:
        Witness.create(tmp_path / name, [keys[name]])
        Witness(tmp_path / name, lambda: 0).trust(log_key.verify_key)
    with listening(tmp_path, lambda: clocks[0]() // 1000 if clocks else 1_767_225_600) as urls:
        lines = [f"log {log_key.verify_key.text}"]
        lines += [
            f"witness {name} {keys[name].verify_key.text} {url}"
            for name, url in zip(NAMES, urls, strict=True)
        ]
        lines += [f"group two-of-three 2 {' '.join(NAMES)}", "quorum two-of-three"]
        policy = tmp_path / "policy"
        policy.write_text("".join(f"{line}\n" for line in lines))
        service = {"witness_policy": str(policy), "cosign_seconds": 86_400}
        agreed = terms(uses=99)
        with open_stage(tmp_path, TABLES, agreed=agreed, service=service) as play:
            clocks.append(play.clock)
            seen = Seen(play, policy, keys)
            seen.strict(0)
            with play.market.insecure_operator():
                yield seen


@contextmanager
def lying(node: Node, *lies: tuple[str, Callable[[bytes], bytes]]) -> Iterator[None]:
    """Give a node's reader of the log something else than the truth."""
    honest = node._log._get

    def get(asked: str) -> bytes:
        for path, answer in lies:
            if asked.startswith(path):
                return answer(asked.encode())
        return honest(asked)

    node._log._get = get  # type: ignore[method-assign]
    yield
    del node._log._get


def shown(data: bytes) -> tuple[str, Callable[[bytes], bytes]]:
    return "/v1/log/checkpoint", lambda _asked: data


def asked(seen: Seen, at: int, job: str, grants: dict[str, str]) -> Any:
    play = seen.play
    return play.ask(at, play.keys_request(job, grant=grants[play.seats[at].asset]))


def refuses(seen: Seen, job: str, grants: dict[str, str], reason: str, at: int = 0) -> None:
    """Check the word, the receipt that the ledger holds, and that no data were opened."""
    with WATCH.watching(seen.play.files) as opened:
        reply = asked(seen, at, job, grants)
    assert word(reply) == reason
    receipt = seen.play.receipt(at, reply)
    assert (receipt.state, receipt.reason, receipt.rows) == ("refused", reason, 0)
    assert opened == []


def computes(seen: Seen, job: str, grants: dict[str, str], *who: int) -> None:
    """Let nodes answer the first question, which opens their data files."""
    play, talk = seen.play, Conversation(seen.play, job, grants)
    for at, seat in enumerate(play.seats):
        reply = asked(seen, at, job, grants)
        if at in who:
            assert isinstance(reply, KeysReply), word(reply)
            talk.keys[seat.asset] = reply.mask_key
    if len(who) < len(play.seats):
        return
    with WATCH.watching(play.files) as opened:
        talk.deal().ask()
    assert sorted(opened) == sorted(play.files)


def begun(seen: Seen) -> tuple[str, dict[str, str]]:
    job = seen.play.job()
    return job, seen.play.grant_all(job)


# --- the truth, cosigned


def test_a_node_that_asks_for_the_quorum_computes_under_it(seen: Seen):
    lines = seen.log.checkpoint().split(b"\n\n")[1].splitlines()
    assert len(lines) >= 3
    job, grants = begun(seen)
    computes(seen, job, grants, 0, 1, 2)


def test_a_checkpoint_without_its_quorum_proves_nothing(seen: Seen):
    job, grants = begun(seen)
    bare = seen.log.checkpoint().split("\n— witness".encode())[0] + b"\n"
    assert open_checkpoint(bare, seen.log.vkey).size == seen.log.size
    with lying(seen.play.nodes[0], shown(bare)):
        refuses(seen, job, grants, "not_proven")
    # The twin: a node that asks for no witness takes it.
    with lying(seen.play.nodes[1], shown(bare)):
        assert isinstance(asked(seen, 1, job, grants), KeysReply)


# --- stale


def test_a_frozen_log_that_hides_a_revocation_is_refused_as_stale(seen: Seen):
    play = seen.play
    job, grants = begun(seen)
    frozen = seen.log.checkpoint()
    play.seats[0].client.revoke(grants[play.seats[0].asset], "over")
    play.clock.advance(1000 * (LIMIT + 1))
    with lying(play.nodes[0], shown(frozen)):
        refuses(seen, job, grants, "log_stale")
    # The twin: without a limit the node computes for a grant that was revoked.
    seen.strict(0, max_age_seconds=0)
    job, grants = begun(seen)
    frozen = seen.log.checkpoint()
    play.seats[0].client.revoke(grants[play.seats[0].asset], "over")
    play.clock.advance(1000 * (LIMIT + 1))
    with lying(play.nodes[0], shown(frozen)):
        assert isinstance(asked(seen, 0, job, grants), KeysReply)


def test_a_quiet_log_stays_fresh_while_witnesses_answer(seen: Seen):
    job, grants = begun(seen)
    seen.play.clock.advance(1000 * (LIMIT + 1))
    # Nothing was logged meanwhile; without a fresh cosignature it looks like a frozen log.
    with lying(seen.play.nodes[0], shown(seen.log.checkpoint())):
        refuses(seen, job, grants, "log_stale")
    job, grants = begun(seen)
    seen.play.clock.advance(1000 * (LIMIT + 1))
    size = seen.log.size
    seen.log.refresh()
    assert seen.log.size == size
    computes(seen, job, grants, 0, 1, 2)


# --- restored


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_log_restored_from_a_backup_is_refused(seen: Seen, *, restarted: bool):
    play = seen.play
    backup = seen.log.checkpoint()
    job, grants = begun(seen)
    node = play.nodes[0]
    node._log.sync()
    if restarted:
        node = play.reopened(0)
    # Cosigned anew by witnesses that collude: only the node's own memory is left.
    again = seen.cosigned(backup.split("\n— witness".encode())[0] + b"\n")
    with lying(node, shown(again)):
        refuses(seen, job, grants, "log_rolled_back")
    # The twin: the whole log again.
    job, grants = begun(seen)
    computes(seen, job, grants, 0, 1, 2)


# --- split


@dataclass
class Fork:
    """A second history, signed with the log's own key: one entry is another's."""

    tree: Tree
    raw: list[bytes]

    @classmethod
    def of(cls, log: Log, more: int) -> Fork:
        raw = list(log.entry_bytes(0, log.size))
        last = Entry.from_bytes(raw[-1])
        raw[-1] = replace(last, time=last.time + 1).to_bytes()
        raw += [raw[-1]] * more
        return cls(Tree.from_leaf_hashes(leaf_hash(data) for data in raw), raw)

    def checkpoint(self, key: SigningKey) -> bytes:
        return sign(Checkpoint(key.name, self.tree.size, self.tree.root()), key)

    def tile(self, path: bytes) -> bytes:
        tile = Tile.from_path(path.decode().removeprefix("/v1/log/"))
        return tile_bytes(self.tree, tile, lambda start, stop: self.raw[start:stop])


@pytest.mark.parametrize("more", [0, 3], ids=["as large", "larger"])
def test_a_split_log_is_refused_and_the_proof_is_kept(seen: Seen, more: int):
    play = seen.play
    first, second, third, fourth = (begun(seen) for _ in range(4))
    node = play.nodes[0]
    node._log.sync()
    fork = Fork.of(seen.log, more)
    # Without the witnesses' help the second history is nothing to this node …
    other = fork.checkpoint(seen.log_key)
    with lying(node, shown(other), ("/v1/log/tile", fork.tile)):
        refuses(seen, *first, "not_proven")
    # … and with it, the node's own memory shows the split.
    node._log.sync()
    size = seen.log.size
    fork = Fork.of(seen.log, more)
    other = seen.cosigned(fork.checkpoint(seen.log_key))
    with lying(node, shown(other), ("/v1/log/tile", fork.tile)):
        refuses(seen, *second, "log_split")
    proof = (node._log._memory.parent / PROOF_FILE).read_bytes()
    heads = {(head.size, head.root) for head in open_fork(proof, seen.log.vkey).heads}
    honest = seen.log._state.tree.root(size)
    assert heads == {(size, honest), (size + more, fork.tree.root())}
    # Shown the truth again, it still refuses, also after a restart, and grants nothing more.
    refuses(seen, *third, "log_split")
    node = play.reopened(0)
    refuses(seen, *fourth, "log_split")
    with pytest.raises(RefusedError) as refusal:
        node.approve(play.job())
    assert refusal.value.reason == "log_split"
    # The twin: nodes that were shown one history compute.
    for at in (1, 2):
        assert isinstance(asked(seen, at, *fourth), KeysReply)


def test_the_twin_without_a_memory_computes_under_a_second_history(seen: Seen):
    play = seen.play
    job, grants = begun(seen)
    fork = Fork.of(seen.log, 0)
    node = play.nodes[0]
    (node._log._memory).unlink()
    node = play.reopened(0)
    other = seen.cosigned(fork.checkpoint(seen.log_key))
    with lying(node, shown(other), ("/v1/log/tile", fork.tile)):
        assert isinstance(asked(seen, 0, job, grants), KeysReply)
    assert not (node._log._memory.parent / PROOF_FILE).exists()


def test_witnesses_do_not_cosign_the_second_history(seen: Seen):
    begun(seen)
    fork = Fork.of(seen.log, 3)
    cosigner = seen.log._publisher._cosign
    assert cosigner is not None
    with pytest.raises(CosigningError, match="0 of the 2"):
        cosigner(fork.checkpoint(seen.log_key), fork.tree)
