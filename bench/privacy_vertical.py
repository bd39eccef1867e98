"""A logistic regression over two owners' columns, on shares, beside the pooled steps in the clear.

Ours: three nodes' parts, one after the other in one process, so the seconds are those of three
machines' work on one core and no network. Theirs: the same full-batch steps on the pooled matrix in
numpy, which shows every column to whoever computes it.
"""

import time
from collections.abc import Generator
from operator import itemgetter
from typing import Any

import numpy as np

from bench.table import Row, rate
from federated.plan import Floats
from federated.tasks.vertical_fit import Fitted, Share, fit
from federated.tasks.vertical_layout import Layout
from privacy.replicated.party import Party

NAMES = ("first", "second", "third")
OWN = 13
"""Columns of the label's owner, its intercept not counted; the rest are the other owner's."""

STEP = 0.5
TRIES = 3
"""Of which the fastest counts."""

UNIT = "steps/s"


def rows(*, quick: bool = False) -> list[Row]:
    """Steps of a logistic fit in a second, on shares and in the clear."""
    count, columns, steps = (300, 23, 2) if quick else (30_000, 23, 4)
    x, y = _people(count, columns)
    few, many = (
        min((_shared(x, y, taken) for _ in range(1 if quick else TRIES)), key=itemgetter(0))
        for taken in (1, 1 + steps)
    )
    each, sent = ((many[at] - few[at]) / steps for at in (0, 1))
    plain = _plain(x, y, 1 + steps)
    plain_each = 1 / rate(lambda: _plain(x, y, steps), count=steps)
    return [
        Row(
            f"vertical logistic {count}x{columns}",
            1 / each,
            UNIT,
            1 / plain_each,
            {
                "seconds for each step": each,
                "bytes sent for each step, of all three": sent,
                "seconds of dealing and opening": max(0.0, few[0] - each),
                "bytes of dealing and opening": few[1] - sent,
                "times slower than plain": each / plain_each,
                "largest error of a coefficient": float(np.abs(many[2] - plain).max()),
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


def _plain(x: Floats, y: Floats, steps: int) -> Floats:
    """Returns the coefficients after the same steps in the clear."""
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        weights -= STEP * x.T @ (1 / (1 + np.exp(-x @ weights)) - y) / len(y)
    return weights
