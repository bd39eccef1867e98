"""Task `auction`: a price out of sealed bids that stay sealed, the losing ones for good.

Three or more nodes hold shares of all bids and open the outcome alone (`privacy.mpc`).

    second_price    the highest bid wins and pays the second highest (Vickrey, Journal of Finance,
                    1961); with `award` = "lowest" the lowest wins and is paid the second lowest. A
                    bid is a party's total of a column, in a table of one row the cell. Opened are
                    the winner and the price; of equal bids the earlier asset's wins.
    uniform_price   a double auction: each row of a party offers to buy (`quantity` above zero) at
                    `column` or less, or to sell (below zero) at `column` or more. Opened are the
                    last price of the public, rising grid `prices` at which demand is at least
                    supply, and supply at that price, all of which is sold (Bogetoft et al.,
                    Financial Cryptography 2009). Who trades follows from each party's own rows.

Every node learns the outcome, so do researcher and operator. Assets in `computing_only` do not bid.

Result: {"winner": {"asset", "name"}, "price": n} or {"price": n or null, "quantity": n}, and always
{"numbers": n, "rounds": n}. No price: demand is below supply even at the first of the grid.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from federated.errors import PreparationError, TaskError, suggestion
from federated.plan import Plan
from federated.preparation import decimal_text
from federated.tasks import parameters as read
from federated.tasks import sharing
from federated.tasks.joint import JointTask, Part, Place, Talk
from federated.tasks.question import PreparedRows
from privacy.mpc.computation import MOST_PRICES, Clearing, Computation, Owner, Ranking, Value

FORMS = ("second_price", "uniform_price")
AWARDS = ("highest", "lowest")
_KEYS = (
    "form",
    "column",
    "award",
    "quantity",
    "prices",
    "decimals",
    "rows",
    "computing_only",
)


class Auction(JointTask):
    """The task `auction`."""

    name: ClassVar[str] = "auction"
    version: ClassVar[int] = 1
    most_rounds: ClassVar[int] = sharing.MOST_ROUNDS

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns {"form": …, "column": …, "award": "highest", "quantity": null, …}.

        Raises:
            TaskError: unknown_parameter or bad_parameter.
        """
        read.known_keys(self.name, given, _KEYS)
        form, award = given.get("form", "second_price"), given.get("award", "highest")
        if form not in FORMS or award not in AWARDS:
            wrong, known = (form, FORMS) if form not in FORMS else (award, AWARDS)
            raise TaskError(
                "bad_parameter",
                f"form and award: {wrong!r} is none{suggestion(str(wrong), known)}",
            )
        curves = form == "uniform_price"
        told = [given.get(key) is not None for key in ("quantity", "prices")]
        if told != [curves, curves]:
            raise TaskError(
                "bad_parameter", "quantity and prices: for a uniform price, and for nothing else"
            )
        if curves and award != "highest":
            raise TaskError("bad_parameter", "award: for a second price, and for nothing else")
        places = sharing.decimals(given)
        return {
            "form": form,
            "column": sharing.column(given, "column"),
            "award": award,
            "quantity": sharing.column(given, "quantity") if curves else None,
            "prices": _grid(given["prices"], places) if curves else None,
            "decimals": places,
            "rows": read.row_choice(given),
            "computing_only": sharing.computing_only(given),
        }

    def check_plan(self, plan: Plan) -> None:
        """Checks parties, columns and bounds against the data cards.

        Raises:
            TaskError: bad_parameter, unknown_column, not_numeric or overflow.
        """
        each = 1 if plan.parameters["prices"] is None else 2 * len(plan.parameters["prices"])
        holding = {party.asset_id for party in sharing.holders(plan)}
        counts = tuple(each if party.asset_id in holding else 0 for party in plan.cohort)
        sharing.largest_cell(plan, plan.parameters["column"], plan.parameters["decimals"])
        quantity = plan.parameters["quantity"]
        if quantity and not sharing.is_whole(plan, quantity):
            raise TaskError("bad_parameter", f"quantity: {quantity!r} must hold whole numbers")
        sharing.check(_computation(plan, counts))

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which rows take part."""
        return (str(plan.parameters["rows"]),)

    def check_rows(self, plan: Plan, asset: str, rows: PreparedRows) -> None:
        """Checks that a party's rows give bids within their bound.

        Raises:
            TaskError: too_few or out_of_bounds.
        """
        _values(plan, asset, rows)

    def take_part(self, plan: Plan, place: Place, rows: PreparedRows) -> Talk:
        """Runs this node's side; see `federated.tasks.sharing.compute`.

        Raises:
            TaskError: too_few, out_of_bounds or out_of_order.
            MpcError: what a peer sent is no part of the computation.
            ChildError: the child process died.
        """
        values = _values(plan, place.asset, rows)
        opened = yield from sharing.compute(
            plan, place, values, lambda counts: _computation(plan, counts)
        )
        return Part(opened.to_json())

    def conclude(self, plan: Plan, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns what all report.

        Raises:
            TaskError: reports_differ.
        """
        opened = sharing.read_reports(plan, reports, 2)
        how = {"numbers": opened.numbers, "rounds": opened.rounds}
        if plan.parameters["form"] == "uniform_price":
            return _cleared(plan, opened.outcome) | how
        if len(opened.outcome) != 2:
            raise TaskError("reports_differ", "a report does not hold winner and price")
        winner, price = opened.outcome
        sign = 1 if plan.parameters["award"] == "highest" else -1
        return {
            "winner": sharing.party_of(plan, winner),
            "price": sharing.unscaled(sign * price, plan),
        } | how


def _grid(given: Any, places: int) -> list[str]:
    """Returns the public prices as decimal texts.

    Raises:
        TaskError: bad_parameter: not rising, too many, or with more decimals than there are.
    """
    if not isinstance(given, list | tuple) or not 0 < len(given) <= MOST_PRICES:
        raise TaskError("bad_parameter", f"prices: a list of 1 to {MOST_PRICES} numbers is needed")
    try:
        prices = [Decimal(decimal_text("prices", price)) for price in given]
    except PreparationError as error:
        raise TaskError("bad_parameter", str(error)) from error
    if any(price.scaleb(places) % 1 or abs(price) > 1 << 53 for price in prices):
        raise TaskError("bad_parameter", f"prices: numbers with at most {places} decimals")
    if prices != sorted(set(prices)):
        raise TaskError("bad_parameter", "prices: each is above the one before")
    return [decimal_text("prices", str(price)) for price in prices]


def _prices(plan: Plan) -> list[int]:
    """The grid as whole numbers."""
    places = plan.parameters["decimals"]
    return [int(Decimal(price).scaleb(places)) for price in plan.parameters["prices"]]


def _computation(plan: Plan, counts: tuple[int, ...]) -> Computation:
    """What is computed; a party's total is bounded by its rows times the largest cell."""
    rows = max([1, *(party.rows for party in sharing.holders(plan))])
    if plan.parameters["form"] == "second_price":
        cell = sharing.largest_cell(plan, plan.parameters["column"], plan.parameters["decimals"])
        return Ranking(counts, rows * cell, (Owner(0), Value((1,))))
    cell = sharing.largest_cell(plan, plan.parameters["quantity"], 0)
    return Clearing(counts, rows * cell, len(plan.parameters["prices"]))


def _values(plan: Plan, asset: str, rows: PreparedRows) -> list[int]:
    """A node's bid, or what it buys at each price and then what it sells."""
    if not sharing.holds(plan, asset):
        return []
    limits = sharing.scaled(plan, rows, plan.parameters["column"], plan.parameters["decimals"])
    if plan.parameters["form"] == "second_price":
        total = sum(limits)
        return [total if plan.parameters["award"] == "highest" else -total]
    quantities = sharing.scaled(plan, rows, plan.parameters["quantity"], 0)
    orders = list(zip(limits, quantities, strict=True))
    grid = _prices(plan)
    demand = [sum(n for limit, n in orders if n > 0 and limit >= price) for price in grid]
    supply = [sum(-n for limit, n in orders if n < 0 and limit <= price) for price in grid]
    return demand + supply


def _cleared(plan: Plan, outcome: tuple[int, ...]) -> dict[str, Any]:
    """The price of the grid and what is sold at it."""
    covered, *sold = outcome
    if not 0 <= covered <= len(plan.parameters["prices"]) or len(sold) != min(covered, 1):
        raise TaskError("reports_differ", "a report does not hold a price of the grid")
    if not covered:
        return {"price": None, "quantity": 0}
    return {
        "price": sharing.unscaled(_prices(plan)[covered - 1], plan),
        "quantity": sold[0],
    }
