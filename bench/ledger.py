"""What the log takes in a second, durably, and what it costs to prove, check and audit it.

Statements are agreements, signed by two parties. An append counts when the log has acknowledged it:
entry and checkpoint are on the disk by then. Its figure is that of `Log.append` with statements
whose signatures were verified before; `verifying` in its details is the same path with the
verification of both signatures inside; `with rows` is `Log.submit`, in a transaction of each
producer's own that could hold business rows as well, and the wait after it. Every rate of appending
stands beside that of bare `fdatasync` calls on the same disk, in the same run.
"""

import contextlib
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TypeVar

import sqlalchemy as sa

from bench.cast import Cast, agreements
from bench.checks import check
from bench.resuming import first_look, resume
from bench.table import Row, rate
from ledger import store
from ledger.export import export
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.merkle import Tree, leaf_hash, verify_inclusion
from ledger.sequencer import Checked
from ledger.statements.registry import forget
from marketplace.database import make_engine, postgresql_url

ENTRIES = 100_000
PRODUCERS = 64
PAGE = bytes(4096)
SYNCS = 500
TRIES = 3  # of a full audit
POSTGRES = "RONGSHU_TEST_POSTGRES"
LOCAL = "postgresql:///postgres?host=/var/run/postgresql"


T = TypeVar("T")


@dataclass(frozen=True)
class Appended:
    """One run of appends: entries a second, and the latencies of the 50th and 99th percentile."""

    rate: float
    p50_ms: float
    p99_ms: float

    @property
    def latencies(self) -> dict[str, float]:
        """For a row's details."""
        return {"p50 ms": self.p50_ms, "p99 ms": self.p99_ms}


def rows(entries: int = ENTRIES) -> list[Row]:
    """Measure a log of about so many entries."""
    with tempfile.TemporaryDirectory(prefix="rongshu-bench-") as name:
        return _measure(Path(name), max(entries, 2 * PRODUCERS))


def _measure(folder: Path, entries: int) -> list[Row]:
    cast = Cast.enrol()
    few = max(2 * PRODUCERS, entries // 10)
    some = few // 5
    # The last ones are for the runs that verify: nobody has read them yet.
    made = agreements(cast, entries + 2 * few)
    syncs = fdatasyncs(folder)
    found = [Row("raw fdatasync", syncs, "1/s")]

    with _log(cast, folder / "one", make_engine(folder / "one.sqlite")) as log:
        single = _append(log, [log.check(item) for item in made[: entries // 20]], 1)
        verifying = _append(log, made[entries : entries + entries // 20], 1)
        submitted = _submit(log, made[entries // 20 : entries // 20 + some], 1)
    found.append(_row("append sqlite 1 producer", single, verifying, submitted, syncs))

    with _log(cast, folder / "many", make_engine(folder / "many.sqlite")) as log:
        checked = [log.check(item) for item in made[:entries]]
        forget()
        many = _append(log, checked, PRODUCERS)
        verifying = _append(log, made[entries : entries + few - some], PRODUCERS)
        submitted = _submit(log, made[entries + few - some : entries + few], PRODUCERS)
        found.append(_row("append sqlite 64 producers", many, verifying, submitted, syncs))
        found.append(_postgresql(folder, cast, checked[: 2 * few], made[-few:], syncs))
        found += _proofs(log)
        earlier = log.checkpoint()
        _append(log, made[entries + few :][: entries // 100], PRODUCERS)
        log.stop()
        target = folder / "export"
        export(log, log.bench_key, target, opened=range(log.size), scope="bench", now=0)
        found += _restart(log)
        seconds = first_look(folder / "state", log, earlier)
    found += _checks(target, log)
    return [*found, resume(target, folder / "state", log, seconds)]


class BenchLog(Log):
    """A log that remembers what it was made with."""

    bench_key: SigningKey
    bench_engine: sa.Engine
    bench_folder: Path


@contextlib.contextmanager
def _log(cast: Cast, folder: Path, engine: sa.Engine) -> Iterator[BenchLog]:
    store.metadata.create_all(engine)
    key = SigningKey.generate("bench.example/log")
    log = BenchLog(engine, key, folder, _now)
    log.bench_key, log.bench_engine, log.bench_folder = key, engine, folder
    for envelope in cast.envelopes:
        log.enqueue(envelope)
    log.start()
    try:
        yield log
    finally:
        log.stop()
        engine.dispose()


def _now() -> int:
    return time.time_ns() // 1_000_000


def fdatasyncs(folder: Path) -> float:
    """Pages a second that reach the disk one by one, in a file that is there already."""
    path = folder / "fdatasync"
    path.write_bytes(PAGE * 64)
    file = os.open(path, os.O_WRONLY)
    try:
        os.fsync(file)
        start = time.perf_counter()
        for number in range(SYNCS):
            os.pwrite(file, PAGE, number % 64 * len(PAGE))
            os.fdatasync(file)
        return SYNCS / (time.perf_counter() - start)
    finally:
        os.close(file)


def _append(log: Log, items: Sequence[bytes | Checked], producers: int) -> Appended:
    """Append from several threads, each waiting for every acknowledgement."""
    return _produce(lambda item: log.append(item, timeout=60), items, producers)


def _submit(log: BenchLog, items: Sequence[bytes], producers: int) -> Appended:
    """Store each statement in a transaction of its own, and wait until it is logged."""

    def submit(envelope: bytes) -> None:
        with log.bench_engine.begin() as connection:
            name = log.submit(connection, envelope)
        log.wait_for(name, timeout=60)

    return _produce(submit, items, producers)


def _produce(log_one: Callable[[T], object], items: Sequence[T], producers: int) -> Appended:
    waits: list[float] = []

    def produce(mine: Sequence[T]) -> None:
        own = []
        for item in mine:
            start = time.perf_counter()
            log_one(item)
            own.append(time.perf_counter() - start)
        waits.extend(own)

    threads = [
        threading.Thread(target=produce, args=(items[number::producers],))
        for number in range(producers)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    waits.sort()
    if len(waits) != len(items):
        raise RuntimeError(f"{len(items) - len(waits)} appends failed")
    return Appended(
        len(items) / seconds, waits[len(waits) // 2] * 1000, waits[len(waits) * 99 // 100] * 1000
    )


def _row(
    name: str, verified: Appended, verifying: Appended, submitted: Appended, syncs: float
) -> Row:
    details = {
        "verifying": verifying.rate,
        "with rows": submitted.rate,
        **verified.latencies,
    }
    return Row(name, verified.rate, "1/s", syncs, details)


def _postgresql(
    folder: Path, cast: Cast, checked: Sequence[Checked], raw: Sequence[bytes], syncs: float
) -> Row:
    name = "append postgresql 64 producers"
    server = postgresql_url(os.environ.get(POSTGRES, LOCAL))
    database = f"rongshu_bench_{secrets.token_hex(6)}"
    administration = sa.create_engine(
        server, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5}
    )
    try:
        with administration.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {database}")
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        why_not = {"not available": f"{reason}; {POSTGRES} names a server"}
        return Row(name, None, "1/s", syncs, why_not)
    try:
        url = server.set(database=database).render_as_string(hide_password=False)
        with _log(cast, folder / "postgresql", make_engine(url)) as log:
            verified = _append(log, checked, PRODUCERS)
            verifying = _append(log, raw[: len(raw) // 2], PRODUCERS)
            submitted = _submit(log, raw[len(raw) // 2 :], PRODUCERS)
        return _row(name, verified, verifying, submitted, syncs)
    finally:
        with administration.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {database} WITH (FORCE)")
        administration.dispose()


def _proofs(log: BenchLog) -> list[Row]:
    leaves = [leaf_hash(data) for data in log.entry_bytes(0, log.size)]
    tree, size = Tree.from_leaf_hashes(leaves), len(leaves)
    numbers = [number * 7919 % size for number in range(1000)]
    proofs = [tree.inclusion(number, size) for number in numbers]
    root = tree.root()

    def prove() -> None:
        for number in numbers:
            tree.inclusion(number, size)

    def check() -> None:
        for number, proof in zip(numbers, proofs, strict=True):
            verify_inclusion(leaves[number], number, size, proof, root)

    return [
        Row("prove", rate(prove, count=len(numbers)), "1/s"),
        Row("verify proof", rate(check, count=len(numbers)), "1/s"),
    ]


def _restart(log: BenchLog) -> list[Row]:
    start = time.perf_counter()
    again = Log(log.bench_engine, log.bench_key, log.bench_folder, _now)
    seconds = time.perf_counter() - start
    if again.size != log.size:
        raise RuntimeError("the log came back with another size")
    return [Row("restart", seconds, "s", details={"entries": float(again.size)})]


def _checks(target: Path, log: Log) -> list[Row]:
    cores, key = os.cpu_count() or 1, log.vkey.text
    structure = check(target, key, "structure", 1)
    # In turns, and the mean of each: what else the machine does slows now these, now those.
    tries = [check(target, key, "audit", number) for number in (1, cores) * TRIES]
    alone, together = (mean(item.seconds for item in tries[first::2]) for first in (0, 1))
    length = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    details = {
        "processes": float(cores),
        "seconds": together,
        "seconds in one process": alone,
    }
    audited, before = log.size / together, log.size / alone
    return [
        Row("structure check", structure.seconds, "s", details={"entries": float(log.size)}),
        Row("full audit", audited, "1/s", before, details),
        Row("peak memory", structure.peak, "MB", details={"full audit": tries[-1].peak}),
        Row("bytes per entry", length / log.size, "bytes"),
    ]
