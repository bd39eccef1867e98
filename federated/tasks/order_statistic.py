"""Task `order_statistic`: the largest, smallest, middle of numbers that nobody shows to anybody.

Three or more nodes compare their numbers on secret shares (`privacy.mpc`). A number is a party's
total or mean of a column, or, with `of` = "rows", every cell of it at every party: 64 numbers at
most are compared, of which a party puts in only those that can count.

    maximum, minimum    the number, and with `who` whose it is
    top                 the k largest in falling order, and with `who` whose each is; never all
    median              the middle one, or the mean of the two in the middle, of which only the sum
                        is opened
    comparison          of exactly two parties, which has more; no number is opened

Every node learns the outcome, so do researcher and operator. Two owners who want to compare name
a third asset that only computes: with two parties alone each share would be the number.

Result: {"value": n} or {"values": [n, …]} or {"more": party or null}, then {"who": party or
[party, …]} where asked for, and always {"numbers": n, "rounds": n}. A party is {"asset", "name"}.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from federated.errors import TaskError, suggestion
from federated.plan import Plan
from federated.tasks import parameters as read
from federated.tasks import sharing
from federated.tasks.joint import JointTask, Part, Place, Talk
from federated.tasks.question import PreparedRows
from privacy.mpc.computation import (
    MOST_VALUES,
    Computation,
    Opening,
    Order,
    Owner,
    Ranking,
    Value,
)

STATISTICS = ("maximum", "minimum", "top", "median", "comparison")
OF = ("total", "mean", "rows")
MOST_TOP = 16
_KEYS = ("statistic", "column", "of", "k", "who", "decimals", "rows", "computing_only")


class OrderStatistic(JointTask):
    """The task `order_statistic`."""

    name: ClassVar[str] = "order_statistic"
    version: ClassVar[int] = 1
    most_rounds: ClassVar[int] = sharing.MOST_ROUNDS

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns {"statistic": …, "column": …, "of": "total", "k": null, "who": false, …}.

        Raises:
            TaskError: unknown_parameter or bad_parameter.
        """
        read.known_keys(self.name, given, _KEYS)
        statistic = _one_of(given, "statistic", STATISTICS, None)
        k, who = given.get("k"), sharing.flag(given, "who")
        if (statistic == "top") != (type(k) is int and 1 <= k <= MOST_TOP):
            raise TaskError(
                "bad_parameter", f"k: how many, from 1 to {MOST_TOP}, for top and nothing else"
            )
        of = _one_of(given, "of", OF, "total")
        if who and statistic in ("median", "comparison"):
            raise TaskError("bad_parameter", f"who: a {statistic} is nobody's")
        if of == "rows" and statistic == "comparison":
            raise TaskError("bad_parameter", "of: a comparison is of two totals or means")
        return {
            "statistic": statistic,
            "column": sharing.column(given, "column"),
            "of": of,
            "k": k,
            "who": who,
            "decimals": sharing.decimals(given),
            "rows": read.row_choice(given),
            "computing_only": sharing.computing_only(given),
        }

    def check_plan(self, plan: Plan) -> None:
        """Checks parties, column and bounds against the data cards.

        Raises:
            TaskError: bad_parameter, unknown_column, not_numeric, overflow or too_few.
        """
        holding = {party.asset_id for party in sharing.holders(plan)}
        each = plan.parameters["of"] != "rows"
        counts = tuple(
            0 if party.asset_id not in holding else 1 if each else _put_in(plan, party.rows)
            for party in plan.cohort
        )
        if each or plan.parameters["rows"] == "all":
            sharing.check(_computation(plan, counts))
            return
        # A preparation may leave fewer rows than the card has: how many, the nodes will say.
        few = tuple(min(count, 1) for count in counts)
        sharing.check(Ranking(few, _bound(plan), (Value((0,)),)))

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which rows take part."""
        return (str(plan.parameters["rows"]),)

    def check_rows(self, plan: Plan, asset: str, rows: PreparedRows) -> None:
        """Checks that a party's rows give numbers within their bound.

        Raises:
            TaskError: too_few or out_of_bounds.
        """
        _values(plan, asset, rows)

    def take_part(self, plan: Plan, place: Place, rows: PreparedRows) -> Talk:
        """Runs this node's side; see `federated.tasks.sharing.compute`.

        Raises:
            TaskError: too_few, out_of_bounds, out_of_order or bad_parameter.
            MpcError: what a peer sent is no part of the computation.
            ChildError: the child process died.
        """
        opened = yield from sharing.compute(
            plan,
            place,
            _values(plan, place.asset, rows),
            lambda counts: _computation(plan, counts),
        )
        return Part(opened.to_json())

    def conclude(self, plan: Plan, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns what all report.

        Raises:
            TaskError: reports_differ.
        """
        opened = sharing.read_reports(plan, reports, 2 * MOST_TOP)
        how = {"numbers": opened.numbers, "rounds": opened.rounds}
        if plan.parameters["statistic"] == "comparison":
            return _more(plan, opened.outcome) | how
        if len(opened.outcome) != len(_openings(plan, opened.numbers)):
            raise TaskError("reports_differ", "a report does not hold what this task opens")
        return _found(plan, opened) | how


def _one_of(given: Mapping[str, Any], key: str, known: tuple[str, ...], absent: str | None) -> str:
    value = given.get(key, absent)
    if value not in known:
        raise TaskError("bad_parameter", f"{key}: {value!r} is none{suggestion(str(value), known)}")
    return str(value)


def _put_in(plan: Plan, rows: int) -> int:
    """How many of a party's rows can count: of the largest k, no more than k are at one party."""
    most: int = {"top": plan.parameters["k"], "median": rows}.get(plan.parameters["statistic"], 1)
    return min(rows, most)


def _bound(plan: Plan) -> int:
    """The largest number that a party may put in."""
    cell = sharing.largest_cell(plan, plan.parameters["column"], plan.parameters["decimals"])
    if plan.parameters["of"] != "total":
        return cell
    return cell * max([1, *(party.rows for party in sharing.holders(plan))])


def _openings(plan: Plan, total: int) -> tuple[Opening, ...]:
    """What is opened of so many numbers."""
    if plan.parameters["statistic"] == "median":
        return (Value(tuple(sorted({(total - 1) // 2, total // 2}))),)
    ranks = range(plan.parameters["k"] or 1)
    values: list[Opening] = [Value((rank,)) for rank in ranks]
    return tuple(values + ([Owner(rank) for rank in ranks] if plan.parameters["who"] else []))


def _computation(plan: Plan, counts: tuple[int, ...]) -> Computation:
    """What is computed, given how many numbers each party puts in.

    Raises:
        TaskError: too_few: no more numbers than are asked for, so that all would be opened.
    """
    if plan.parameters["statistic"] == "comparison":
        return Order(counts, _bound(plan))
    total, least = sum(counts), (plan.parameters["k"] or 1) + 1
    if total < least:
        raise TaskError("too_few", f"of {total} numbers so many cannot be told: {least} are needed")
    return Ranking(counts, _bound(plan), _openings(plan, total))


def _values(plan: Plan, asset: str, rows: PreparedRows) -> list[int]:
    """A node's numbers, from the largest on; of a minimum, their negatives."""
    if not sharing.holds(plan, asset):
        return []
    numbers = sharing.scaled(plan, rows, plan.parameters["column"], plan.parameters["decimals"])
    if plan.parameters["of"] == "rows":
        if plan.parameters["statistic"] == "median" and len(numbers) > MOST_VALUES:
            raise TaskError("bad_parameter", f"more than {MOST_VALUES} rows; take totals or means")
    elif plan.parameters["of"] == "mean":
        numbers = [_rounded_mean(sum(numbers), len(numbers))]
    else:
        numbers = [sum(numbers)]
    if plan.parameters["statistic"] == "minimum":
        numbers = [-number for number in numbers]
    return sorted(numbers, reverse=True)[: _put_in(plan, len(numbers))]


def _rounded_mean(total: int, count: int) -> int:
    """The nearest whole number to total / count, half to even."""
    whole, rest = divmod(total, count)
    return whole + (2 * rest > count or (2 * rest == count and whole % 2 == 1))


def _more(plan: Plan, outcome: tuple[int, ...]) -> dict[str, Any]:
    """Which of the two has more."""
    first, second = sharing.holders(plan)
    sides = {1: first, 0: None, -1: second}
    if len(outcome) != 1 or outcome[0] not in sides:
        raise TaskError("reports_differ", "a report does not say which is more")
    more = sides[outcome[0]]
    return {"more": None if more is None else {"asset": more.asset_id, "name": more.name}}


def _found(plan: Plan, opened: sharing.Opened) -> dict[str, Any]:
    """The numbers in their own unit, and whose they are."""
    statistic, k = plan.parameters["statistic"], plan.parameters["k"] or 1
    sign = -1 if statistic == "minimum" else 1
    halves = 2 if statistic == "median" and opened.numbers % 2 == 0 else 1
    values = [sharing.unscaled(sign * n, plan, halves=halves) for n in opened.outcome[:k]]
    parties = [sharing.party_of(plan, index) for index in opened.outcome[k:]]
    if statistic == "top":
        return {"values": values} | ({"who": parties} if parties else {})
    return {"value": values[0]} | ({"who": parties[0]} if parties else {})
