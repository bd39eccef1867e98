"""Joint tasks on secret shares: who puts numbers in, as which whole numbers, and how nodes talk.

The computation itself is `privacy.mpc`: three or more nodes hold shares of every number, compute on
them, and open the outcome alone. Here is what its tasks have in common.

A cell becomes a whole number: the shortest decimal that reads back as the same float64, times
10^decimals, rounded half to even. Its bound comes from the data cards: |cell| <= 2^magnitude.

Rounds: the first tells how many numbers each party has, and the computation takes no more than 20:
it does not matter how many numbers there are, since all are compared at once, and products of as
many factors as a number has bits, 56 at most, take six. `MOST_ROUNDS` covers them twice.
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import numpy as np

from federated.errors import TaskError
from federated.plan import Party as PlanParty
from federated.plan import Plan
from federated.tasks.joint import Parcels, Place
from federated.tasks.question import PreparedRows
from ledger.encoding import MAX_SAFE_INTEGER
from privacy.errors import MpcError
from privacy.mpc.computation import MOST_PARTIES, Computation
from privacy.mpc.party import Party

MOST_ROUNDS: Final = 48
MOST_DECIMALS: Final = 9

_COUNT_BYTES = 8
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,19})")
_REPORT_KEYS = {"opened", "numbers", "rounds"}

Planned = Callable[[tuple[int, ...]], Computation]
"""Says what is computed, given how many numbers each party puts in."""


@dataclass(frozen=True)
class Opened:
    """What a computation on shares opened, as every node reports it.

    Attributes:
        numbers: how many were put in by all parties together.
        rounds: in how many exchanges of parcels.
    """

    outcome: tuple[int, ...]
    numbers: int
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; an opened number is a text, since it may exceed 2^53."""
        opened = [str(number) for number in self.outcome]
        return {"opened": opened, "numbers": self.numbers, "rounds": self.rounds}


# --- parameters ----------------------------------------------------------------------------------


def computing_only(given: Mapping[str, Any]) -> list[int]:
    """Returns the parameter `computing_only`: which assets put no numbers in, counted from 1.

    Raises:
        TaskError: bad_parameter.
    """
    places = given.get("computing_only", [])
    whole = isinstance(places, list | tuple) and all(
        type(place) is int and 1 <= place <= MOST_PARTIES for place in places
    )
    if not whole or len(set(places)) != len(places):
        raise TaskError(
            "bad_parameter", "computing_only: places among the job's assets, e.g. [3] for the third"
        )
    return sorted(places)


def decimals(given: Mapping[str, Any]) -> int:
    """Returns the parameter `decimals`, 0 if absent.

    Raises:
        TaskError: bad_parameter.
    """
    value = given.get("decimals", 0)
    if type(value) is not int or not 0 <= value <= MOST_DECIMALS:
        raise TaskError("bad_parameter", f"decimals: a whole number from 0 to {MOST_DECIMALS}")
    return value


def column(given: Mapping[str, Any], key: str) -> str:
    """Returns the name of a column that a parameter gives.

    Raises:
        TaskError: bad_parameter.
    """
    name = given.get(key)
    if not isinstance(name, str) or not name:
        raise TaskError("bad_parameter", f"{key}: the name of a column is needed")
    return name


def flag(given: Mapping[str, Any], key: str) -> bool:
    """Returns a parameter that is true or false, false if absent.

    Raises:
        TaskError: bad_parameter.
    """
    value = given.get(key, False)
    if type(value) is not bool:
        raise TaskError("bad_parameter", f"{key}: true or false")
    return value


# --- plan ----------------------------------------------------------------------------------------


def holders(plan: Plan) -> tuple[PlanParty, ...]:
    """Returns the parties that put numbers in.

    Raises:
        TaskError: bad_parameter: `computing_only` names a place that the job does not have.
    """
    places: list[int] = plan.parameters["computing_only"]
    if places and places[-1] > len(plan.cohort):
        raise TaskError(
            "bad_parameter",
            f"computing_only: the job has {len(plan.cohort)} assets, and no place {places[-1]}",
        )
    return tuple(party for place, party in enumerate(plan.cohort, start=1) if place not in places)


def holds(plan: Plan, asset: str) -> bool:
    """Says whether a party puts numbers in."""
    return any(party.asset_id == asset for party in holders(plan))


def is_whole(plan: Plan, name: str) -> bool:
    """Says whether a column holds whole numbers at every party that puts numbers in.

    Raises:
        TaskError: unknown_column or not_numeric, naming column and party.
    """
    return replace(plan, cohort=holders(plan)).numeric(name) == "integer"


def largest_cell(plan: Plan, name: str, places: int) -> int:
    """Returns a bound for a column's scaled cells at every party that puts numbers in.

    Raises:
        TaskError: unknown_column or not_numeric, naming column and party.
    """
    holding = replace(plan, cohort=holders(plan))
    holding.numeric(name)
    magnitude = holding.magnitude(name)
    # Exact, and rounded up: a cell of 2^k times 10^d rounds to no more than this.
    numerator, denominator = int(10**places) << max(0, magnitude), 1 << max(0, -magnitude)
    return -(-numerator // denominator)


def check(computation: Computation) -> None:
    """Checks a computation whose inputs the data cards give.

    Raises:
        TaskError: bad_parameter; overflow, if a number could exceed what a result can say.
    """
    if computation.magnitude > MAX_SAFE_INTEGER:
        raise TaskError(
            "overflow",
            "the data cards allow numbers beyond 2^53, scaled by their decimals; take fewer "
            "decimals, or a smaller unit's column",
        )
    try:
        computation.check()
    except MpcError as error:
        raise TaskError("bad_parameter", str(error)) from error


# --- numbers -------------------------------------------------------------------------------------


def scaled(plan: Plan, rows: PreparedRows, name: str, places: int) -> list[int]:
    """Returns a column's cells over the job's rows as whole numbers, times 10^places.

    Raises:
        TaskError: too_few: no row; out_of_bounds: a cell is missing, infinite, or beyond the data
            card. Names the column and no value.
    """
    cells = rows.column(name, plan.parameters["rows"])
    if not len(cells):
        raise TaskError("too_few", f"column {name!r} has no row that takes part")
    if not bool(np.isfinite(cells).all()):
        raise TaskError(
            "out_of_bounds",
            f"column {name!r} has missing or infinite values; choose complete rows",
        )
    numbers = [
        int(Decimal(repr(cell)).scaleb(places).to_integral_value(ROUND_HALF_EVEN))
        for cell in cells.tolist()
    ]
    if max(map(abs, numbers)) > largest_cell(plan, name, places):
        raise TaskError(
            "out_of_bounds",
            f"column {name!r} exceeds the bound of its data card; measure the asset again",
        )
    return numbers


def unscaled(number: int, plan: Plan, *, halves: int = 1) -> int | float:
    """Returns an opened number in the column's own unit; whole where it has no decimals.

    Args:
        number: as it was opened.
        plan: says how many decimals.
        halves: 2 if it is the sum of two numbers of which the mean is meant.
    """
    places: int = plan.parameters["decimals"]
    divisor = halves * int(10**places)
    whole, rest = divmod(number, divisor)
    return number / divisor if rest or places else whole


# --- nodes ---------------------------------------------------------------------------------------


def compute(
    plan: Plan, place: Place, values: Sequence[int], planned: Planned
) -> Generator[Parcels, Parcels, Opened]:
    """Runs one node's side of a computation on shares.

    Args:
        plan: its cohort is the order of the parties.
        place: this node's.
        values: its numbers; empty where it only computes.
        planned: the same at every node.

    Raises:
        TaskError: out_of_order: a parcel is missing, or no count.
        MpcError: the computation cannot be done, or a peer sent what is no part of it.
        ChildError: the child process died.
    """
    assets = [party.asset_id for party in plan.cohort]
    own = assets.index(place.asset)
    told = len(values).to_bytes(_COUNT_BYTES, "big")
    incoming = yield {peer: told for peer in assets if peer != place.asset}
    counts = tuple(
        len(values) if asset == place.asset else _count(incoming, asset) for asset in assets
    )
    rounds = 1
    with Party(planned(counts), own, values) as party:
        parcels = party.begin()
        while party.outcome is None:
            incoming = yield {assets[peer]: parcel for peer, parcel in parcels.items()}
            rounds += 1
            if set(incoming) != set(assets) - {place.asset}:
                raise TaskError("out_of_order", "a parcel of another party is missing")
            parcels = party.hear(
                {at: incoming[asset] for at, asset in enumerate(assets) if at != own}
            )
        return Opened(tuple(party.outcome), sum(counts), rounds)


def _count(incoming: Parcels, asset: str) -> int:
    told = incoming.get(asset, b"")
    if len(told) != _COUNT_BYTES:
        raise TaskError("out_of_order", "a party did not say how many numbers it has")
    return int.from_bytes(told, "big")


# --- reports -------------------------------------------------------------------------------------


def read_reports(plan: Plan, reports: Mapping[str, Mapping[str, Any]], length: int) -> Opened:
    """Returns what all nodes report, if it is the same and has the form of a report.

    Args:
        plan: whose cohort reports.
        reports: by asset; not trusted.
        length: how many numbers the task opens; at most.

    Raises:
        TaskError: reports_differ.
    """
    told = [reports.get(party.asset_id, {}) for party in plan.cohort]
    first = told[0]
    if any(report != first for report in told) or set(first) != _REPORT_KEYS:
        raise TaskError("reports_differ", "the nodes do not report the same outcome")
    opened, counts = first["opened"], (first["numbers"], first["rounds"])
    texts = isinstance(opened, list) and 0 < len(opened) <= length
    if not texts or not all(isinstance(n, str) and _NUMBER.fullmatch(n) for n in opened):
        raise TaskError("reports_differ", "a report does not hold what this task opens")
    if any(type(count) is not int or count < 1 for count in counts):
        raise TaskError("reports_differ", "a report does not say how much was computed")
    return Opened(tuple(int(number) for number in opened), *counts)


def party_of(plan: Plan, index: int) -> dict[str, str]:
    """Returns asset and name of a party that was opened by its place.

    Raises:
        TaskError: reports_differ: there is no such party, or it put no number in.
    """
    if not 0 <= index < len(plan.cohort) or plan.cohort[index] not in holders(plan):
        raise TaskError("reports_differ", "a report names a party that put no number in")
    return {"asset": plan.cohort[index].asset_id, "name": plan.cohort[index].name}
