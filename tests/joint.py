"""Two or more parties of a joint task, without nodes: parcels go straight from one to the other.

parts = converse(task, plan, {"asset:a": rows, "asset:b": other})
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from federated.node.profile import measure
from federated.node.rows import Rows, prepare
from federated.node.table import ReadingSpec, read_table
from federated.plan import Party, Plan
from federated.preparation import Preparation
from federated.tasks.joint import Faster, JointTask, Part, Place

BINDING = bytes(range(32))
Meddle = Callable[[int, str, dict[str, bytes]], dict[str, bytes]]


def csv_text(rows: list[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def staged(
    task: JointTask, tables: Mapping[str, str], preparation: Any, **parameters: Any
) -> tuple[Plan, dict[str, Rows]]:
    """The plan of a job over these tables, and each party's rows, as its node has them."""
    agreed = Preparation.parse(preparation)
    rows, parties = {}, []
    for name, text in tables.items():
        table = read_table(text.encode(), ReadingSpec(), f"{name}.csv")
        rows[name] = prepare(table, agreed)
        parties.append(Party.from_measurement(name, name, measure(table, "sha256:" + 64 * "0")))
    given = task.parse_parameters(parameters)
    return Plan(task.name, task.version, given, tuple(parties), agreed), rows


def converse(
    task: JointTask,
    plan: Plan,
    rows: Mapping[str, Rows],
    meddle: Meddle = lambda _number, _asset, parcels: parcels,
    heard: list[bytes] | None = None,
    faster: Faster | None = None,
) -> dict[str, Part]:
    """Run every party's part; `meddle` may change what one is handed in a round."""
    talks = {
        asset: task.take_part(plan, Place(asset, BINDING, faster=faster), rows[asset])
        for asset in rows
    }
    sent = {asset: dict(next(talk)) for asset, talk in talks.items()}
    parts: dict[str, Part] = {}
    for number in range(2, task.most_rounds + 1):
        arrived = {
            asset: {peer: parcels[asset] for peer, parcels in sent.items() if asset in parcels}
            for asset in rows
        }
        if heard is not None:
            heard += [data for parcels in sent.values() for data in parcels.values()]
        sent = {asset: {} for asset in rows}
        for asset, talk in talks.items():
            if asset in parts:
                assert not arrived[asset]
                continue
            try:
                sent[asset] = dict(talk.send(meddle(number, asset, arrived[asset])))
            except StopIteration as stop:
                parts[asset] = stop.value
        if len(parts) == len(rows):
            return parts
    raise AssertionError("they did not come to an end")
