"""Lies in the journals of nodes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ledger.journal import JournalLine
from tests.generated.lies.fault import Fault
from tests.generated.node import Node


class UnloggedJob(Fault):
    """A node computes a job that never comes into the log."""

    code = "unlogged_job"

    def steps(self) -> Iterator[None]:
        node = self.deals[0].node
        self.job, _ = self.market.sign("job", self.job_payload(), self.researcher.key)
        yield
        self.launch(node)
        receipt, _ = self.market.sign("receipt", self.receipt_payload(node), node.key)
        self.finish(node, receipt, "completed")


class UngrantedJob(Fault):
    """A node computes a job that nobody granted, and says that it failed."""

    code = "ungranted_job"

    def steps(self) -> Iterator[None]:
        self.put_job()
        yield
        self.launch(self.deals[0].node)
        self.put_receipt(self.deals[0].node)

    def receipt_payload(self, node: Node) -> dict[str, Any]:
        return super().receipt_payload(node) | {"reason": "task_error", "state": "failed"}


class UnlaunchedJob(Fault):
    """A node hands in a receipt of a job that it never launched."""

    code = "unlaunched_job"

    def launch(self, node: Node) -> None:
        pass


class LostCanary(Fault):
    """A job that the auditor planted is left out altogether."""

    code = "missing_canary"

    def steps(self) -> Iterator[None]:
        self.market.canaries.append(self.nonce)
        yield

    def named(self) -> str:
        return self.nonce


class MissingLine(Fault):
    """A node hands out a journal without the lines of one job."""

    code = "missing_line"
    at = (17,)

    def play(self) -> Iterator[None]:
        yield from super().play()
        self.market.tampered[self.deals[0].node.asset] = self.tamper

    def tamper(self, lines: list[JournalLine]) -> list[JournalLine]:
        return [line for line in lines if line.body.get("job") != self.job]


class RewrittenJournal(Fault):
    """A node hands out a journal in which one line says something else."""

    code = "journal_mismatch"
    at = (18,)

    def steps(self) -> Iterator[None]:
        self.put_job()
        yield
        self.put_grant(self.deals[0])
        self.launch(self.deals[0].node)
        self.put_receipt(self.deals[0].node)
        yield
        self.put_release()
        self.put_settlement()
        self.market.tampered[self.deals[0].node.asset] = self.tamper

    def tamper(self, lines: list[JournalLine]) -> list[JournalLine]:
        def changed(line: JournalLine) -> JournalLine:
            if line.kind == "reply" and line.body["job"] == self.job:
                return replace(line, body=line.body | {"step": "9"})
            return line

        return [changed(line) for line in lines]


LIES: tuple[type[Fault], ...] = (
    UnloggedJob,
    UngrantedJob,
    UnlaunchedJob,
    LostCanary,
    MissingLine,
    RewrittenJournal,
)
