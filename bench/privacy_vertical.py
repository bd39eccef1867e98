"""A logistic regression over two owners' columns, on shares, beside the pooled steps in the clear.

Ours: three nodes' parts, one after the other in one process, so the seconds are those of three
machines' work on one core and no network. Theirs: the same full-batch steps on the pooled matrix in
numpy, which shows every column to whoever computes it.
"""

import time
from collections.abc import Generator
from typing import Any

import numpy as np

from bench.table import Row
from federated.plan import Floats
from federated.tasks.vertical_fit import Fitted, Share, fit
from federated.tasks.vertical_layout import Layout
from privacy.replicated.party import Party

NAMES = ("first", "second", "third")
OWN = 13
"""Columns of the label's owner, its intercept not counted; the rest are the other owner's."""

STEP = 0.5
UNIT = "steps/s"


def rows(*, quick: bool = False) -> list[Row]:
    """Steps of a logistic fit in a second, on shares and in the clear."""
    count, columns, steps = (300, 23, 2) if quick else (30_000, 23, 4)
    x, y = _people(count, columns)
    # The first fit pays for imports and caches too.
    _shared(x, y, 1)
    once, sent_once, _ = _shared(x, y, 1)
    seconds, sent, found = _shared(x, y, 1 + steps)
    _plain(x, y, 1)
    plain_seconds, plain = _plain(x, y, 1 + steps)
    each, plain_each = (seconds - once) / steps, plain_seconds / (1 + steps)
    return [
        Row(
            f"vertical logistic {count}x{columns}",
            1 / each,
            UNIT,
            1 / plain_each,
            {
                "seconds for each step": each,
                "bytes sent for each step, of all three": (sent - sent_once) / steps,
                "seconds of dealing and opening": max(0.0, once - each),
                "bytes of dealing and opening": sent_once - (sent - sent_once) / steps,
                "times slower than plain": each / plain_each,
                "largest error of a coefficient": float(np.abs(found - plain).max()),
                "baseline": "the same steps on the pooled matrix in numpy",
            },
        )
    ]


def _people(count: int, columns: int) -> tuple[Floats, Floats]:
    """Standardised columns with a column of ones first, and labels that depend on them."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(count, columns))
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    chances = 1 / (1 + np.exp(-x @ generator.normal(size=columns) / np.sqrt(columns)))
    return np.column_stack([np.ones(count), x]), (generator.random(count) < chances) * 1.0


def _shared(x: Floats, y: Floats, steps: int) -> tuple[float, int, Floats]:
    """Returns seconds, bytes that all three sent, and the coefficients that owners were shown."""
    layout = Layout(
        model="logistic",
        owners=NAMES[:2],
        widths=(1 + OWN, x.shape[1] - 1 - OWN),
        label_owner=NAMES[0],
        rows=len(x),
        steps=steps,
        step=STEP,
        largest=float(np.sqrt(len(x))),
        root_mean_square=1.0,
    )
    layout.check()
    shares = (Share(x[:, : 1 + OWN], y), Share(x[:, 1 + OWN :]), Share())
    talks: dict[str, Generator[Any, Any, Fitted]] = {
        name: fit(Party(NAMES, name, bytes(32)), layout, share)
        for name, share in zip(NAMES, shares, strict=True)
    }
    began = time.perf_counter()
    fitted, sent = _converse(talks)
    seconds = time.perf_counter() - began
    parts = [fitted[name].coefficients for name in layout.owners]
    return seconds, sent, np.concatenate([part for part in parts if part is not None])


def _converse(talks: dict[str, Generator[Any, Any, Fitted]]) -> tuple[dict[str, Fitted], int]:
    """Carries parcels until everybody is done; returns what came of it, and the bytes."""
    fitted: dict[str, Fitted] = {}
    arrived: dict[str, Any] = dict.fromkeys(talks)
    total = 0
    while len(fitted) < len(talks):
        sent: dict[str, dict[str, bytes]] = {}
        for name, talk in talks.items():
            if name in fitted:
                continue
            try:
                sent[name] = talk.send(arrived[name])
            except StopIteration as stop:
                fitted[name] = stop.value
        total += sum(len(data) for parcels in sent.values() for data in parcels.values())
        arrived = {
            name: {peer: parcels[name] for peer, parcels in sent.items() if name in parcels}
            for name in talks
        }
    return fitted, total


def _plain(x: Floats, y: Floats, steps: int) -> tuple[float, Floats]:
    """Returns seconds of the same steps in the clear, and their coefficients."""
    began = time.perf_counter()
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        weights -= STEP * x.T @ (1 / (1 + np.exp(-x @ weights)) - y) / len(y)
    return time.perf_counter() - began, weights
