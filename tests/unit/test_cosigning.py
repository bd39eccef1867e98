"""The operator collects a quorum from witnesses that are dead, slow, wrong or lying, and others."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ledger import cosigning
from ledger.audit.witness_server import WitnessServer
from ledger.checkpoint import Checkpoint, sign
from ledger.cosignature import cosign
from ledger.cosigning import Cosigner
from ledger.encoding import b64decode, b64encode
from ledger.errors import (
    CosigningError,
    FetchError,
    PolicyError,
    SignatureError,
    WitnessError,
)
from ledger.keys import COSIGNATURE_MLDSA, CosigningKey, SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.note import split_unverified
from ledger.session import Answer
from ledger.trust import Policy
from ledger.witness import PATH, Request
from ledger.witness import Witness as Cosigning

LOG = SigningKey.from_seed("log.example", bytes(32))
SECOND = CosigningKey.from_seed("log.example", bytes(32), COSIGNATURE_MLDSA)
START = 1_767_225_600
NAMES = ("north", "south", "west")

Reply = Callable[[bytes], Answer]


def tree_of(size: int) -> Tree:
    return Tree.from_leaf_hashes(leaf_hash(b"%d" % at) for at in range(size))


def signed(tree: Tree) -> bytes:
    return sign(Checkpoint(LOG.name, tree.size, tree.root()), LOG)


def key_of(name: str) -> CosigningKey:
    return CosigningKey.from_seed(f"witness.example/{name}", name.encode().ljust(32, b"."))


def url_of(name: str) -> str:
    return f"https://{name}.example/witness"


def policy_of(
    threshold: int | str = 2, *, names: tuple[str, ...] = NAMES, extra: str = ""
) -> Policy:
    lines = [f"log {LOG.verify_key.text}"]
    lines += [f"witness {name} {key_of(name).verify_key.text} {url_of(name)}" for name in names]
    lines += [f"group quorum-of-three {threshold} {' '.join(names)}", extra]
    lines += ["" if "quorum " in extra else "quorum quorum-of-three"]
    return Policy.parse("".join(f"{line}\n" for line in lines))


class Network:
    """Three real witnesses behind addresses; any of them may be replaced."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, Request]] = []
        self.replies: dict[str, Reply] = {}
        self.witnesses: dict[str, Cosigning] = {}
        for name in NAMES:
            Cosigning.create(folder / name, [key_of(name)])
            self.witnesses[name] = Cosigning(folder / name, lambda: START)
            self.witnesses[name].trust(LOG.verify_key)
            self.replies[f"{url_of(name)}/add-checkpoint"] = self.honest(name)

    def honest(self, name: str) -> Reply:
        def reply(body: bytes) -> Answer:
            try:
                return Answer(200, "text/plain", self.witnesses[name].add_checkpoint(body))
            except WitnessError as error:
                if error.size is not None:
                    return Answer(error.status, "text/x.tlog.size", b"%d\n" % error.size)
                return Answer(error.status, "text/plain", str(error).encode())

        return reply

    def replace(self, name: str, reply: Reply) -> None:
        self.replies[f"{url_of(name)}/add-checkpoint"] = reply

    def __call__(self, url: str, body: bytes) -> Answer:
        self.asked.append((url, Request.from_bytes(body)))
        return self.replies[url](body)


@pytest.fixture(name="network")
def _network(tmp_path: Path) -> Network:
    return Network(tmp_path)


def cosigner(network: Network, policy: Policy, **options: object) -> Cosigner:
    return Cosigner(policy, lambda: START, post=network, **{"pause": 0.0, **options})  # type: ignore[arg-type]


def test_a_quorum_is_collected_and_meets_the_policy(network: Network):
    policy = policy_of("all")
    whole = cosigner(network, policy)(signed(tree_of(9)), tree_of(9))
    trusted = policy.open_checkpoint(whole)
    assert [name for name, _ in trusted.witnesses] == list(NAMES)
    assert trusted.witnessed_at == START
    assert whole.startswith(signed(tree_of(9)))


def test_sizes_are_remembered_so_that_one_request_is_enough(network: Network):
    collect = cosigner(network, policy_of("all"))
    for size in (3, 9, 9, 700):
        network.asked.clear()
        collect(signed(tree_of(size)), tree_of(size))
        assert len(network.asked) == 3
    # The same size again asks for a fresh time with an empty proof.
    assert all(request.old == 9 and request.proof for _, request in network.asked)


def test_a_restarted_operator_learns_the_sizes_from_refusals(network: Network):
    policy = policy_of("all")
    cosigner(network, policy)(signed(tree_of(300)), tree_of(300))
    network.asked.clear()
    assert cosigner(network, policy)(signed(tree_of(700)), tree_of(700))
    assert sorted(request.old for _, request in network.asked) == [0, 0, 0, 300, 300, 300]


def test_only_addresses_of_the_policy_are_asked(network: Network):
    silent = policy_of(1, names=("north", "south"))
    cosigner(network, silent)(signed(tree_of(9)), tree_of(9))
    assert {url for url, _ in network.asked} <= {
        f"{url_of(name)}/add-checkpoint" for name in ("north", "south")
    }


# --- witnesses that do not help


def dead(_body: bytes) -> Answer:
    raise FetchError("connection refused")


def broken(_body: bytes) -> Answer:
    raise RuntimeError("a defect")


def other_text(_body: bytes) -> Answer:
    return Answer(200, "", cosign(signed(tree_of(4)), key_of("west"), START))


def other_key(body: bytes) -> Answer:
    line = cosign(Request.from_bytes(body).signed, CosigningKey.generate("witness.example/x"), 1)
    return Answer(200, "", line)


def same_name(body: bytes) -> Answer:
    key = CosigningKey.generate("witness.example/west")
    return Answer(200, "", cosign(Request.from_bytes(body).signed, key, START))


def late_time(body: bytes) -> Answer:
    line = cosign(Request.from_bytes(body).signed, key_of("west"), START)
    name, encoded = line.decode().removeprefix("\u2014 ").split()
    raw = b64decode(encoded)
    later = raw[:4] + (START + 1).to_bytes(8, "big") + raw[12:]
    return Answer(200, "", f"\u2014 {name} {b64encode(later)}\n".encode())


def answer(status: int, body: bytes, kind: str = "text/x.tlog.size") -> Reply:
    return lambda _body: Answer(status, kind, body)


UNHELPFUL: dict[str, Reply] = {
    "dead": dead,
    "a defect": broken,
    "another text": other_text,
    "another key": other_key,
    "another key of its name": same_name,
    "another time": late_time,
    "nothing": answer(200, b""),
    "nonsense": answer(200, b"nonsense\n"),
    "no text": answer(200, b"\xff\xfe\n"),
    "a note of its own": answer(200, b"text\n\n\xe2\x80\x94 west AAAAAAAA\n"),
    "a line too many to read": answer(200, "— x AAAAAAAA\n".encode() * 200),
    "it knows us not": answer(404, b"unknown", "text/plain"),
    "an error": answer(500, b"", ""),
    "a redirect": answer(302, b"", "text/html"),
    "a size without its type": answer(409, b"3\n", "text/plain"),
    "a size that is none": answer(409, b"03\n"),
    "a negative size": answer(409, b"-3\n"),
    "a size beyond ours": answer(409, b"10\n"),
    "a size beyond all": answer(409, b"9223372036854775808\n"),
    "no size": answer(409, b""),
    "the size it was told": answer(409, b"0\n"),
}


@pytest.mark.parametrize("what", UNHELPFUL)
def test_one_unhelpful_witness_costs_a_warning_and_nothing_else(
    network: Network, what: str, caplog: pytest.LogCaptureFixture
):
    network.replace("west", UNHELPFUL[what])
    tree = tree_of(9)
    # With all three needed, its word is waited for, and never shown.
    with caplog.at_level(logging.WARNING), pytest.raises(CosigningError, match="not by 'west'"):
        cosigner(network, policy_of("all"))(signed(tree), tree)
    assert any("witness west" in record.getMessage() for record in caplog.records)
    policy = policy_of(2)
    whole = cosigner(network, policy)(signed(tree), tree)
    assert [name for name, _ in policy.open_checkpoint(whole).witnesses] == ["north", "south"]
    assert len(split_unverified(whole)[1]) == 3


def test_a_witness_that_changes_its_mind_for_ever_is_left(network: Network):
    sizes = iter(range(1, 100))
    network.replace("west", lambda _body: Answer(409, "text/x.tlog.size", b"%d\n" % next(sizes)))
    with pytest.raises(CosigningError):
        cosigner(network, policy_of("all"))(signed(tree_of(99)), tree_of(99))
    assert next(sizes) < 6


def test_a_line_beside_the_right_one_is_not_taken_along(network: Network):
    honest = network.honest("west")

    def chatty(body: bytes) -> Answer:
        stranger = cosign(Request.from_bytes(body).signed, CosigningKey.generate("x"), 1)
        return Answer(200, "", stranger + honest(body).body)

    network.replace("west", chatty)
    whole = cosigner(network, policy_of("all"))(signed(tree_of(9)), tree_of(9))
    assert len(split_unverified(whole)[1]) == 4


def test_a_slow_witness_is_not_waited_for_and_catches_up(
    network: Network, caplog: pytest.LogCaptureFixture
):
    now, release, done = [0.0], threading.Event(), threading.Semaphore(0)
    entered = threading.Event()

    def slow(body: bytes) -> Answer:
        entered.set()
        release.wait(10)
        found = network.honest("west")(body)
        done.release()
        return found

    network.replace("west", slow)
    collect = cosigner(network, policy_of(2), timeout=10.0, monotonic=lambda: now[0])
    for size in (5, 9, 12, 15):
        assert collect(signed(tree_of(size)), tree_of(size))
    # One request is under way and one waits for it; more are not piled up behind them.
    assert entered.wait(10)
    assert sum(url.startswith(url_of("west")) for url, _ in network.asked) == 1
    assert not caplog.records
    now[0] = 6.0
    collect(signed(tree_of(16)), tree_of(16))
    assert [record.getMessage() for record in caplog.records] == ["witness west: silent"]
    release.set()
    for _ in range(2):
        assert done.acquire(timeout=10)
    assert network.witnesses["west"].seen(LOG.name).size == 9


def test_one_dead_and_one_late_witness_still_make_a_quorum(network: Network):
    release = threading.Event()

    def late(body: bytes) -> Answer:
        release.wait(10)
        return network.honest("west")(body)

    network.replace("west", late)
    collect = cosigner(network, policy_of(2))
    assert collect(signed(tree_of(5)), tree_of(5))
    # The late one still answers the first request when the second needs it.
    network.replace("south", lambda _body: [release.set(), dead(b"")][1])  # type: ignore[func-returns-value]
    assert collect(signed(tree_of(9)), tree_of(9))


def test_too_many_slow_witnesses_end_in_time(network: Network):
    release = threading.Event()
    for name in ("south", "west"):
        network.replace(name, lambda _body: [release.wait(10), dead(b"")][1])  # type: ignore[func-returns-value]
    collect = cosigner(network, policy_of(2), timeout=0.05)
    with pytest.raises(CosigningError, match=r"1 of the 2.*in 0.05 s"):
        collect(signed(tree_of(9)), tree_of(9))
    release.set()


def test_after_a_missed_quorum_nobody_is_asked_for_a_while(network: Network):
    now = [0.0]
    for name in ("south", "west"):
        network.replace(name, dead)
    collect = cosigner(network, policy_of(2), pause=5.0, monotonic=lambda: now[0])
    tree = tree_of(9)
    with pytest.raises(CosigningError, match="1 of the 2"):
        collect(signed(tree), tree)
    asked = len(network.asked)
    now[0] = 4.9
    with pytest.raises(CosigningError, match="a moment ago"):
        collect(signed(tree), tree)
    assert len(network.asked) == asked
    network.replace("south", network.honest("south"))
    now[0] = 5.0
    assert collect(signed(tree), tree)


def test_a_trouble_is_told_once_and_its_end_too(network: Network, caplog: pytest.LogCaptureFixture):
    collect = cosigner(network, policy_of("all"))
    tree = tree_of(9)
    network.replace("west", dead)
    for _ in range(5):
        with pytest.raises(CosigningError):
            collect(signed(tree), tree)
    network.replace("west", network.honest("west"))
    for _ in range(2):
        collect(signed(tree), tree)
    assert [record.getMessage() for record in caplog.records] == [
        "witness west: connection refused",
        "witness west: it answers again",
    ]


def test_a_trouble_that_comes_after_the_quorum_is_told_too(
    network: Network, caplog: pytest.LogCaptureFixture
):
    release = threading.Event()
    network.replace("west", lambda _body: [release.wait(10), dead(b"")][1])  # type: ignore[func-returns-value]
    assert cosigner(network, policy_of(2))(signed(tree_of(9)), tree_of(9))
    assert not caplog.records
    release.set()
    for thread in threading.enumerate():
        if thread.name == "witness west":
            thread.join(10)
    assert [each.getMessage() for each in caplog.records] == ["witness west: connection refused"]


def test_a_second_history_gets_no_quorum(network: Network, caplog: pytest.LogCaptureFixture):
    collect = cosigner(network, policy_of(2))
    collect(signed(tree_of(9)), tree_of(9))
    fork = Tree.from_leaf_hashes(leaf_hash(b"%d'" % at) for at in range(12))
    with pytest.raises(CosigningError, match="0 of the 2"):
        collect(signed(fork), fork)
    same = Tree.from_leaf_hashes(leaf_hash(b"%d'" % at) for at in range(9))
    caplog.clear()
    with pytest.raises(CosigningError):
        collect(signed(same), same)
    assert any("a second history" in record.getMessage() for record in caplog.records)
    # A log that was restored from a backup is not helped either.
    with pytest.raises(CosigningError):
        collect(signed(tree_of(7)), tree_of(7))
    assert collect(signed(tree_of(12)), tree_of(12))


# --- the log's own second key, and policies that cannot work


def test_the_log_adds_a_line_of_its_own(network: Network):
    whole = cosigner(network, Policy.of(LOG.verify_key), own=SECOND)(signed(tree_of(9)), tree_of(9))
    assert network.asked == []
    assert len(split_unverified(whole)[1]) == 2
    own = f"witness own {SECOND.verify_key.text}\ngroup both all own quorum-of-three\nquorum both"
    policy = policy_of(2, extra=own)
    whole = cosigner(network, policy, own=SECOND)(signed(tree_of(9)), tree_of(9))
    assert "own" in dict(policy.open_checkpoint(whole).witnesses)
    with pytest.raises(PolicyError, match="have a URL"):
        cosigner(network, policy)


def test_policies_that_cannot_work_are_refused_at_once(network: Network):
    key = key_of("north").verify_key.text
    for line, message in (
        (f"witness n {key}", "have a URL"),
        (f"witness n {key} witness.example", "no address"),
        (f"witness n {key} file:///etc/passwd", "no address"),
        (f"witness n {key} https://n.example/?a=b", "a query"),
    ):
        policy = Policy.parse(f"log {LOG.verify_key.text}\n{line}\nquorum n\n")
        with pytest.raises(PolicyError, match=message):
            cosigner(network, policy)
    other = CosigningKey.generate("other.example")
    with pytest.raises(PolicyError, match=r"'other\.example', which is no log here"):
        cosigner(network, Policy.of(LOG.verify_key), own=other)


def test_the_twin_a_line_that_is_not_verified_would_be_shown(
    network: Network, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cosigning, "verify_cosignature", lambda *_: 0)
    network.replace("west", late_time)
    policy = policy_of(1, names=("west",))
    with pytest.raises(SignatureError, match="does not verify"):
        cosigner(network, policy)(signed(tree_of(9)), tree_of(9))


# --- over the network


def test_over_the_network_it_speaks_to_a_real_witness(network: Network):
    with WitnessServer(("127.0.0.1", 0), network.witnesses["north"], lambda _line: None) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            line = f"witness n {key_of('north').verify_key.text} {url}"
            policy = Policy.parse(f"log {LOG.verify_key.text}\n{line}\nquorum n\n")
            collect = Cosigner(policy, lambda: START)
            for size in (5, 300):
                whole = collect(signed(tree_of(size)), tree_of(size))
                assert policy.open_checkpoint(whole).checkpoint.size == size
        finally:
            server.shutdown()
            thread.join()


DRIPPING = {
    "the status line": (b"", b"H"),
    "the head": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "one line of the head": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"x"),
}


@contextmanager
def dripping(what: str) -> Iterator[str]:
    """Answer one request, and never come to an end of it."""
    first, drop = DRIPPING[what]
    over = threading.Event()

    def run() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(first)
            while not over.wait(0.01):
                connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("what", DRIPPING)
def test_a_quorum_does_not_wait_for_a_witness_that_drips(network: Network, what: str):
    policy, tree = policy_of(2), tree_of(9)
    post = cosigning._over_the_network(60.0)
    with dripping(what) as url:
        network.replace("west", lambda body: post(url, body))
        started = time.monotonic()
        whole = cosigner(network, policy, timeout=60.0)(signed(tree), tree)
        assert time.monotonic() - started < 10
    assert [name for name, _ in policy.open_checkpoint(whole).witnesses] == ["north", "south"]


@pytest.mark.parametrize("what", DRIPPING)
def test_a_witness_that_drips_is_left_at_the_deadline_and_asked_again(network: Network, what: str):
    """One that dripped the head of its answer kept its place, and was never asked again."""
    policy, tree = policy_of("all"), tree_of(9)
    post = cosigning._over_the_network(0.5)
    with dripping(what) as url:
        network.replace("west", lambda body: post(url, body))
        started = time.monotonic()
        collect = cosigner(network, policy, timeout=10.0)
        with pytest.raises(CosigningError, match="not by 'west'"):
            collect(signed(tree), tree)
        assert 0.3 < time.monotonic() - started < 5
        network.replace("west", network.honest("west"))
        assert len(policy.open_checkpoint(collect(signed(tree), tree)).witnesses) == 3
