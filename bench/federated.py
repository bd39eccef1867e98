"""What governance costs a federated computation: per round, per job, per node, and in bytes.

A round is one model update, a Newton step of a logistic regression, with all the exchanges that
the protocol has for it. Its seconds run from its first message to its last reply; `whole` in the
details runs on to the next question, with what the coordinator does in between, and `plain whole`
is that of the baseline. The baseline is the same task over the same rows, Grid, encoding and
message form without guard, masks, signatures and journal, in turns with the governed jobs; their
results must be equal to the last digit. Figures are medians of one run.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.federated_deployed import deployed_rounds
from bench.federated_market import Market, hospitals, plain_of, simulated
from bench.federated_stock import StockError, train_exchange
from bench.federated_trace import Round, Run
from bench.table import Row
from marketplace.scenario.parts import Scenario

UPDATE = "newton"
ROWS_OF_GROWTH = 500


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        rows: at each of the four nodes of the large cohort.
        jobs: governed jobs over it, and over the hospitals, each beside an ungoverned one.
        cohorts: numbers of nodes whose growth is shown.
        cohort_jobs: governed jobs for each of these.
        stock_rounds: rounds of stock Flower; the first is not counted.
    """

    rows: int
    jobs: int
    cohorts: tuple[int, ...]
    cohort_jobs: int
    stock_rounds: int


FULL = Sizes(rows=20_000, jobs=7, cohorts=(2, 4, 10, 20, 40), cohort_jobs=3, stock_rounds=6)
QUICK = Sizes(rows=2_000, jobs=2, cohorts=(2, 4), cohort_jobs=1, stock_rounds=2)


@dataclass(frozen=True)
class Costs:
    """Jobs over one cohort, governed and plain, and the rounds of each that were model updates."""

    governed: Sequence[Run]
    plain: Sequence[Run]
    updates: Sequence[Round]
    plain_updates: Sequence[Round]

    @property
    def overhead(self) -> float:
        """Seconds of a governed job beside its rounds."""
        return median(run.overhead for run in self.governed)

    def row(self, name: str) -> Row:
        """Seconds of a round beside those of a plain one."""
        details = {
            "whole": _whole(self.updates),
            "plain whole": _whole(self.plain_updates),
            "rounds": float(len(self.updates)),
            "first round": median(run.rounds[0].seconds for run in self.governed),
        }
        return Row(name, _seconds(self.updates), "s", _seconds(self.plain_updates), details)


def rows(*, quick: bool = False) -> list[Row]:
    """Measure everything; `quick` with few rows, nodes and rounds, to see that it works."""
    sizes = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="rongshu-bench-") as name:
        folder = Path(name)
        data = simulated(folder / "large data", 4, sizes.rows)
        large = measure(folder / "large", data, sizes.jobs, f"4 nodes x {sizes.rows:,} rows")
        small = measure(folder / "small", hospitals(), sizes.jobs, "the four hospitals")
        found = [
            large.row("embedded round governed"),
            small.row("embedded round small"),
            *deployed_rows(sizes.stock_rounds),
            _bytes(small),
            _overhead(small, large),
        ]
        for nodes in sizes.cohorts:
            data = simulated(folder / f"data of {nodes}", nodes, ROWS_OF_GROWTH)
            told = f"{nodes} nodes x {ROWS_OF_GROWTH} rows"
            costs = measure(folder / f"{nodes}", data, sizes.cohort_jobs, told)
            found.append(_growth(nodes, costs))
    return found


def measure(folder: Path, scenario: Scenario, jobs: int, told: str) -> Costs:
    """Run the scenario's job governed and plain, in turns, after one of each that is not counted.

    Args:
        folder: for the market; new.
        scenario: see `bench.federated_market`.
        jobs: how many of each.
        told: what is measured, for those who wait.

    Raises:
        RuntimeError: the two did not compute the same.
    """
    _say(f"{told}: everybody enrols")
    plain_job = plain_of(scenario)
    with Market(folder, scenario) as market:
        governed: list[Run] = []
        plain: list[Run] = []
        steps: tuple[str, ...] = ()
        for number in range(jobs + 1):
            _say(f"{told}: job {number} of {jobs}" if number else f"{told}: a first job")
            governed.append(market.run())
            run, steps = plain_job.run()
            plain.append(run)
            if governed[-1].result != run.result:
                raise RuntimeError(f"{told}: governed and plain results differ")
    return Costs(governed[1:], plain[1:], _updates(governed[1:], steps), _updates(plain[1:], steps))


def _updates(runs: Sequence[Run], steps: Sequence[str]) -> list[Round]:
    """The rounds that were model updates; `steps` says what each round asked."""
    found = []
    for run in runs:
        if [each.number for each in run.rounds] != [*range(1, len(steps) + 1)]:
            raise RuntimeError(f"{len(run.rounds)} rounds crossed, {len(steps)} were asked")
        found += [each for each in run.rounds if steps[each.number - 1] == UPDATE]
    return found


def _seconds(rounds: Sequence[Round]) -> float:
    return median(each.seconds for each in rounds)


def _whole(rounds: Sequence[Round]) -> float:
    # An update is never the last question, so something always follows it.
    return median(each.whole for each in rounds if each.whole is not None)


def _sizes(rounds: Sequence[Round]) -> tuple[float, float]:
    """Bytes of a round to the nodes, and back."""
    return median(each.to_nodes for each in rounds), median(each.to_server for each in rounds)


def _bytes(costs: Costs) -> Row:
    there, back = _sizes(costs.updates)
    plain_there, plain_back = _sizes(costs.plain_updates)
    details = {
        "to nodes": there,
        "from nodes": back,
        "plain to nodes": plain_there,
        "plain from nodes": plain_back,
    }
    return Row("bytes per round", there + back, "bytes", plain_there + plain_back, details)


def _overhead(small: Costs, large: Costs) -> Row:
    details = {
        "whole job": median(run.seconds for run in small.governed),
        "plain job": median(run.seconds for run in small.plain),
        "of the large cohort": large.overhead,
    }
    return Row("job overhead", small.overhead, "s", details=details)


def _growth(nodes: int, costs: Costs) -> Row:
    row = costs.row(f"round of {nodes} nodes")
    details = {**row.details, "bytes": sum(_sizes(costs.updates)), "job overhead": costs.overhead}
    return Row(row.name, row.value, row.unit, row.baseline, details)


def deployed_rows(stock_rounds: int) -> list[Row]:
    """A round of the deployed way to run, beside stock Flower's train exchange."""
    stock = stock_row(stock_rounds)
    ours = deployed_rounds(hospitals(), _say)
    details = {"rounds": float(len(ours.rounds)), "first": ours.rounds[0], "start": ours.start}
    if stock.value is not None:
        details["times as fast as stock"] = stock.value / ours.seconds
    return [stock, Row("deployed round", ours.seconds, "s", stock.value, details)]


def stock_row(rounds: int) -> Row:
    """Seconds of one train exchange of stock Flower; without them where it cannot be started."""
    name = "stock train exchange"
    try:
        exchange = train_exchange(rounds, _say)
    except StockError as error:
        return Row(name, None, "s", details={"not available": str(error)})
    details = {"rounds": float(rounds), "first": exchange.rounds[0], "start": exchange.start}
    return Row(name, exchange.seconds, "s", details=details)


def _say(text: str) -> None:
    """Tell whoever waits; standard output is for the figures."""
    print(text, file=sys.stderr, flush=True)
