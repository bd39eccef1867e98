"""Collects cosignatures: the operator's side of C2SP tlog-witness.

    cosign = Cosigner(policy, now=lambda: int(time.time()))
    log = Log(engine, key, folder, clock, cosign=cosign)

Asks all witnesses of a policy at once, and returns as soon as its quorum is met. A witness that is
silent, slow, wrong or lying costs a warning and nothing else: what it sent is verified before
anybody sees it, and dropped when it does not verify. Requests go to the addresses in the policy and
nowhere else.

Decides nothing about trust: the note that it returns is held against the policy by the same code
that readers use.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ledger import checkpoint as checkpoints
from ledger.cosignature import attach, cosign, verify_cosignature
from ledger.errors import (
    CosigningError,
    FetchError,
    LedgerError,
    NoteError,
    PolicyError,
    TrustError,
)
from ledger.keys import CosigningKey
from ledger.merkle import MAX_SIZE, Tree
from ledger.note import split_unverified
from ledger.quorum import NONE, Witness, seen_by
from ledger.session import Answer, Session
from ledger.trust import Policy
from ledger.witness import MAX_REQUEST, PATH, SIZE_TYPE, Request

_log = logging.getLogger(__name__)

TIMEOUT = 5.0
# Seconds without asking after the quorum was missed: the log tries again many times a second.
PAUSE = 1.0
# How often one witness may correct the size that is remembered of it, for one checkpoint.
_CORRECTIONS = 3
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")

Post = Callable[[str, bytes], Answer]


@dataclass
class _Contact:
    """What is known of one witness."""

    witness: Witness
    url: str
    size: int = 0
    trouble: str = ""
    # One request is under way, and one may wait for it: a late witness catches up by itself.
    places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(2))
    turn: threading.Lock = field(default_factory=threading.Lock)
    since: float | None = None

    def tell(self, trouble: str) -> None:
        """Warn once of each new trouble: the log tries again every second, for days perhaps."""
        if trouble != self.trouble:
            _log.warning("witness %s: %s", self.witness.name, trouble or "it answers again")
        self.trouble = trouble


class Cosigner:
    """The `cosign` of a log; call it with a signed checkpoint and its tree.

    Args:
        policy: whom to ask, and how many must answer. Only its `url`s are ever contacted.
        now: returns Unix seconds.
        own: a further key of the log itself, ML-DSA-44 under the log's name; its line is added.
        post: sends a body to an address; over the network unless told otherwise.
        timeout: seconds to wait for a quorum.
        pause: seconds without asking after a quorum was missed.
        monotonic: returns seconds that never go back.

    Raises:
        PolicyError: the witnesses that have an address cannot make the quorum, an address is none,
            or `own` is not of the policy's log.
    """

    def __init__(
        self,
        policy: Policy,
        now: Callable[[], int],
        *,
        own: CosigningKey | None = None,
        post: Post | None = None,
        timeout: float = TIMEOUT,
        pause: float = PAUSE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._now = now
        self._own = own
        self._post = post or _over_the_network(timeout)
        self._timeout = timeout
        self._pause = pause
        self._monotonic = monotonic
        self._not_before = monotonic()
        self._missed = ""
        self._contacts = [_contact(each) for each in policy.witnesses if each.url is not None]
        own_key = own.verify_key if own else None
        reachable = [
            each.name for each in policy.witnesses if each.url is not None or each.key == own_key
        ]
        _check_reachable(policy, reachable)
        if own is not None and own.name not in {log.name for log in policy.logs}:
            raise PolicyError(f"the second key of the log is of {own.name!r}, which is no log here")

    def __call__(self, signed: bytes, tree: Tree) -> bytes:
        """Return the checkpoint with a quorum's cosignatures.

        Raises:
            CosigningError: the quorum was not reached; the message says who is lacking.
        """
        if self._own is not None:
            signed = attach(signed, [cosign(signed, self._own, self._now())])
        if self._policy.quorum == NONE:
            return signed
        if self._monotonic() < self._not_before:
            raise CosigningError(f"{self._missed}; asked a moment ago, and again soon")
        try:
            return self._collect(signed, tree)
        except CosigningError as error:
            self._missed = str(error)
            self._not_before = self._monotonic() + self._pause
            raise

    def _collect(self, signed: bytes, tree: Tree) -> bytes:
        answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        waiting = sum(self._ask(contact, signed, tree, answers) for contact in self._contacts)
        until = self._monotonic() + self._timeout
        lines: list[bytes] = []
        while True:
            whole = attach(signed, lines)
            try:
                self._policy.open_checkpoint(whole)
            except TrustError as error:
                lacking = str(error)
            else:
                return whole
            if not waiting:
                raise CosigningError(lacking)
            try:
                line = answers.get(timeout=max(0.0, until - self._monotonic()))
            except queue.Empty:
                raise CosigningError(f"{lacking}, in {self._timeout:g} s") from None
            waiting -= 1
            if line is not None:
                lines.append(line)

    def _ask(
        self,
        contact: _Contact,
        signed: bytes,
        tree: Tree,
        answers: queue.SimpleQueue[bytes | None],
    ) -> bool:
        """Ask one witness on a thread of its own, unless two wait for it already."""
        if not contact.places.acquire(blocking=False):
            since = contact.since
            if since is not None and self._monotonic() - since > self._timeout / 2:
                contact.tell("silent")
            return False

        def work() -> None:
            line = None
            # What comes after the quorum was met is told as well: nobody waits for it any more.
            try:
                with contact.turn:
                    contact.since = self._monotonic()
                    line = self._cosignature(contact, signed, tree)
                    contact.tell("")
            except LedgerError as error:
                contact.tell(str(error))
            except Exception:  # noqa: BLE001 - see below
                # A defect here must not stop the log: it is as good as no answer.
                _log.exception("witness %s", contact.witness.name)
            finally:
                contact.places.release()
                answers.put(line)

        threading.Thread(target=work, name=f"witness {contact.witness.name}", daemon=True).start()
        return True

    def _cosignature(self, contact: _Contact, signed: bytes, tree: Tree) -> bytes:
        """Return the verified cosignature line of one witness.

        The tree may grow meanwhile: what it says of the sizes that it had stays the same.
        """
        text, _ = split_unverified(signed)
        size = checkpoints.parse(text).size
        for _ in range(_CORRECTIONS):
            old = min(contact.size, size)
            proof = tree.consistency(old, size) if 0 < old < size else ()
            answer = self._post(contact.url, Request(old, proof, signed).to_bytes())
            if answer.status == 200:
                line = _line_of(signed, answer.body, contact.witness)
                contact.size = max(contact.size, size)
                return line
            contact.size = _corrected(answer, old, size)
        raise FetchError("it changes its mind about the size it cosigned last")


def _check_reachable(policy: Policy, reachable: Sequence[str]) -> None:
    """Return only if the witnesses named `reachable` could make the quorum.

    Raises:
        PolicyError: otherwise.
    """
    if policy.quorum not in seen_by(policy.groups, reachable):
        raise PolicyError(
            f"too few witnesses of the quorum {policy.quorum!r} have a URL: write it at the end of "
            "their `witness` lines"
        )


def _contact(witness: Witness) -> _Contact:
    url = (witness.url or "").rstrip("/") + PATH
    try:
        _session(url, TIMEOUT)
    except FetchError as error:
        raise PolicyError(f"witness {witness.name!r}: {error}") from None
    return _Contact(witness, url)


def _over_the_network(timeout: float) -> Post:
    def post(url: str, body: bytes) -> Answer:
        with _session(url, timeout) as session:
            return session.post("", body, MAX_REQUEST)

    return post


def _session(url: str, timeout: float) -> Session:
    # What goes either way is public and signed: a witness may be asked over plain HTTP.
    return Session(url, patience=timeout, insecure_http=True)


def _corrected(answer: Answer, old: int, size: int) -> int:
    """Return the size that a refusal names.

    Raises:
        FetchError: it names none that helps.
    """
    found = _SIZE.fullmatch(answer.body) if answer.status == 409 else None
    if answer.kind != SIZE_TYPE or found is None or int(found[1]) > MAX_SIZE:
        raise FetchError(f"it answered {answer.status}")
    named = int(found[1])
    if named > size:
        raise FetchError(f"it cosigned {named} entries already; this log has {size}")
    if named == old:
        raise FetchError(f"it cosigned another root for {named} entries: a second history")
    return named


def _line_of(signed: bytes, body: bytes, witness: Witness) -> bytes:
    """Return the one line of an answer that the witness's known key made, as it stands.

    Raises:
        LedgerError: there is none, or it does not verify.
    """
    text, before = split_unverified(signed)
    _, after = split_unverified(attach(signed, [body]))
    for line, raw in zip(after[len(before) :], body.splitlines(keepends=True), strict=True):
        if (line.name, line.key_id) == (witness.key.name, witness.key.key_id):
            verify_cosignature(text, line, witness.key)
            return raw
    raise NoteError("its answer holds no cosignature by its key")
