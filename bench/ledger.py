"""What logging, exporting and auditing a statement cost beside the bare work inside them."""

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from bench.table import Row, rate
from ledger import store
from ledger.export import export
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.statements import Participant
from ledger.statements.registry import forget
from ledger.verify import verify

ENTRIES = 2000


def rows() -> list[Row]:
    """Entries per second through the log, into an export and through the auditor's verifier."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder))


def _measure(folder: Path) -> list[Row]:
    engine = sa.create_engine(f"sqlite:///{folder / 'log.sqlite'}")
    store.metadata.create_all(engine)
    key = SigningKey.generate("bench.example/log")
    log = Log(engine, key, folder / "checkpoints", lambda: time.time_ns() // 1_000_000)
    envelopes = [_enrol(number) for number in range(ENTRIES)]
    submitted = _rate(lambda: _submit(engine, envelopes))
    # Each step is measured as by a reader of its own, who has verified nothing yet.
    forget()
    sequenced = _rate(lambda: _drain(log))
    target = folder / "export"
    exported = _rate(lambda: export(log, key, target, opened=range(log.size), scope="bench", now=0))
    forget()
    audited = _rate(lambda: verify(target, log.vkey))
    hashed = rate(lambda: hashlib.sha256(envelopes[0]).digest())
    signer, message = _key(0), bytes(300)
    signature = signer.sign(message)
    signed = rate(lambda: signer.verify_key.verify(message, signature))
    return [
        Row("store as pending, in one transaction", submitted, "1/s", hashed),
        Row("sequence: entries, tree, rules, checkpoint", sequenced, "1/s", signed),
        Row("export", exported, "1/s", hashed),
        Row("audit", audited, "1/s", signed),
    ]


def _rate(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return ENTRIES / (time.perf_counter() - start)


def _key(number: int) -> SigningKey:
    return SigningKey.from_seed(f"p{number}.example", number.to_bytes(32, "big"))


def _enrol(number: int) -> bytes:
    key = _key(number)
    role = "auditor" if number else "operator"
    return Participant(key.name, (role,), key.verify_key.text, None, number).sign(key)


def _submit(engine: sa.Engine, envelopes: list[bytes]) -> None:
    with engine.begin() as connection:
        for envelope in envelopes:
            store.submit(connection, envelope, now=0)


def _drain(log: Log) -> None:
    while log.sequence():
        pass
