"""Tries what a node must refuse, with the operator's own checks switched off.

Each attempt goes to every node. It holds when each refuses with the expected word, signs a receipt
that says so, and never opens its data file: the interpreter's audit events for `open` are watched
meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from federated.code import code_digest
from federated.errors import RefusedError
from federated.messages import KeysRequest, Refusal, read_reply
from federated.tasks import find_task
from ledger.ids import statement_id
from ledger.statements import Job, Receipt, read
from marketplace.errors import MarketplaceError
from marketplace.scenario.parts import RefusePart
from marketplace.scenario.stage import Seat, Stage
from privacy.secure_random import random_bytes

NOT_REFUSED = "not refused"
FOREIGN_CODE = "sha256:" + "0" * 64
MINUTE = 60_000
AMPLE_USES = 100

Ask = Callable[[], dict[str, str]]
"""Puts the attempt to the nodes, once everything for it is in place; returns each one's word."""


@dataclass(frozen=True)
class Tried:
    """One attempt: whether every node refused as expected, and what each said."""

    name: str
    what: str
    reason: str
    held: bool
    detail: str


class Attempts:
    """Plays the attempts on a stage whose jobs have ended."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._watch = open_watch()
        self._made: list[tuple[Seat, str]] = []
        self._shared: dict[str, str] = {}

    def play(self, part: RefusePart) -> Tried:
        """Try one thing at every node."""
        prepare: Callable[[], Ask] = getattr(self, f"_{part.reason}")
        files = {str(seat.part.file) for seat in self._stage.seats}
        try:
            with self._stage.market.insecure_operator():
                ask = prepare()
                with self._watch.watching(files) as opened:
                    words = ask()
                    touched = set(opened)
        except MarketplaceError as error:
            return Tried(
                part.name, part.what, part.reason, held=False, detail=f"cannot be tried: {error}"
            )
        wrong = {name: word for name, word in words.items() if word != part.reason}
        held = bool(words) and not wrong and not touched
        detail = ", ".join(f"{name}: {word}" for name, word in words.items())
        if touched:
            detail += f"; {len(touched)} data files were opened"
        return Tried(part.name, part.what, part.reason, held=held, detail=detail)

    def end_agreements(self) -> None:
        """Revoke what was agreed for attempts alone: nobody should use it afterwards.

        Raises:
            MarketplaceError: the service did not take a revocation.
        """
        self._shared = {}
        while self._made:
            seat, agreement = self._made.pop()
            seat.client.revoke(agreement, "the attempt is over")

    def _purpose_not_allowed(self) -> Ask:
        return self._for_grant(self._job(self._ample(), purpose="a purpose nobody permitted"))

    def _quota_used_up(self) -> Ask:
        agreements = self._apart(uses=1)
        used = self._job(agreements)
        self._stage.market.decide()
        self._stage.wait(used)
        return self._for_grant(self._job(agreements))

    def _agreement_expired(self) -> Ask:
        ended = self._stage.market.clock() - MINUTE
        return self._for_grant(self._job(self._apart(uses=1, until=ended)))

    def _code_unknown(self) -> Ask:
        return self._for_grant(self._job(self._ample(), code=FOREIGN_CODE))

    def _row_selection_not_allowed(self) -> Ask:
        rows = self._stage.scenario.preparation.to_json()
        split = rows.get("split")
        if split is None:
            # Nothing to split again: ask for other rows than the agreement fixes.
            other = {**rows, "complete_rows": not rows["complete_rows"]}
            return self._for_grant(self._job(self._ample(), preparation=other))
        again = {**rows, "split": {**split, "seed": split["seed"] + 1}}
        agreements = self._apart(uses=1, preparation=again)
        return self._for_grant(self._job(agreements, preparation=again))

    def _revoked(self) -> Ask:
        agreements = self._ample()
        # Nodes with a process of their own might grant it before it is revoked.
        with self._stage.market.undecided():
            job = self._job(agreements)
            self.end_agreements()
        return self._for_grant(job)

    def _grant_mismatch(self) -> Ask:
        agreements = self._ample()
        granted, other = self._job(agreements), self._job(agreements)
        # All but the last grant it: the job does not start, and their grants are there to misuse.
        for seat in self._stage.seats[:-1]:
            seat.node.approve(granted)
        parties = self._stage.researcher.job(granted)["parties"]
        grants = {party["asset"]: party["grant"] for party in parties}
        return lambda: self._ask_keys(other, self._stage.seats[:-1], grants)

    def _not_proven(self) -> Ask:
        statement = self._statement(self._stage.agreements)
        envelope = statement.sign(self._stage.researcher.home.signing_key())
        # Signed by the researcher, and never logged: no entry, no compute.
        job = statement_id(Job.kind, envelope)
        return lambda: self._ask_keys(job, self._stage.seats, {})

    def _for_grant(self, job: str) -> Ask:
        return lambda: self._ask_grants(job)

    def _ample(self) -> dict[str, str]:
        """Return agreements that several attempts share, with uses enough for all of them."""
        self._shared = self._shared or self._apart(uses=AMPLE_USES)
        return self._shared

    def _apart(
        self, *, uses: int, until: int | None = None, preparation: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """Negotiate agreements for one attempt; return asset id to agreement id."""
        agreements = {}
        for seat in self._stage.seats:
            terms = replace(seat.part.terms, uses=uses, until=until or seat.part.terms.until)
            agreements[seat.asset] = self._stage.agree_apart(seat, terms, preparation)
            self._made.append((seat, agreements[seat.asset]))
        return agreements

    def _statement(
        self,
        agreements: Mapping[str, str],
        *,
        purpose: str | None = None,
        code: str | None = None,
        preparation: Mapping[str, Any] | None = None,
    ) -> Job:
        first = self._stage.scenario.jobs[0]
        task = find_task(first.task)
        researcher = self._stage.researcher
        key = researcher.home.encryption_key().public.to_json() if task.encrypted else None
        rows = self._stage.scenario.preparation.to_json() if preparation is None else preparation
        return Job(
            researcher=researcher.home.participant(),
            name="an attempt",
            task=task.name,
            task_version=task.version,
            code_digest=code or code_digest(task.name, task.version),
            parameters=task.parse_parameters(first.parameters),
            preparation=dict(rows),
            purpose=purpose or first.purpose,
            assets=tuple(agreements),
            agreements=tuple(agreements.values()),
            encryption_key=key,
            nonce=random_bytes(16).hex(),
            issued=self._stage.market.clock(),
        )

    def _job(
        self,
        agreements: Mapping[str, str],
        *,
        purpose: str | None = None,
        code: str | None = None,
        preparation: Mapping[str, Any] | None = None,
    ) -> str:
        statement = self._statement(agreements, purpose=purpose, code=code, preparation=preparation)
        researcher = self._stage.researcher
        envelope = statement.sign(researcher.home.signing_key())
        return str(researcher.submit("/jobs", envelope)["job"])

    def _ask_grants(self, job: str) -> dict[str, str]:
        """Ask every node for its grant; return its word."""
        words = {}
        for seat in self._stage.seats:
            try:
                seat.node.approve(job)
                words[seat.part.name] = NOT_REFUSED
            except RefusedError as error:
                words[seat.part.name] = error.reason
        return words

    def _ask_keys(
        self, job: str, seats: Sequence[Seat], grants: Mapping[str, str]
    ) -> dict[str, str]:
        """Begin the job at the nodes as a coordinator would; return each one's word."""
        cohort = tuple(sorted(seat.asset for seat in self._stage.seats))
        return {seat.part.name: self._ask_one(seat, job, cohort, grants) for seat in seats}

    def _ask_one(
        self, seat: Seat, job: str, cohort: tuple[str, ...], grants: Mapping[str, str]
    ) -> str:
        evidence = {"grant": grants.get(seat.asset, "")}
        request = KeysRequest(job, 1, 1, cohort, evidence)
        reply = read_reply(self._stage.market.ask(seat.asset, request.to_bytes()))
        if not isinstance(reply, Refusal) or reply.receipt is None:
            return NOT_REFUSED
        receipt = read(reply.receipt).statement
        signed = isinstance(receipt, Receipt) and receipt.reason == reply.reason
        return reply.reason if signed else "not receipted"


class OpenWatch:
    """Counts openings of files through the interpreter's audit events."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._opened: list[str] = []
        sys.addaudithook(self._heard)

    @contextmanager
    def watching(self, files: set[str]) -> Iterator[list[str]]:
        """Note each opening of these paths, by any thread, in the list that is given."""
        self._files, self._opened = files, []
        try:
            yield self._opened
        finally:
            self._files = set()

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]) in self._files:
            self._opened.append(str(arguments[0]))


@cache
def open_watch() -> OpenWatch:
    """Return this process's watch: an audit hook stays for life, so one is switched on and off."""
    return OpenWatch()
