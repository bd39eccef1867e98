"""FedAvg that notes, for each round, when it handed its messages over and had all replies."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class TimedFedAvg(FedAvg):
    """FedAvg with a line of JSON in a file for each round: seconds of its train exchange."""

    def __init__(self, times: Path, nodes: int) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
        self._times, self._nodes, self._begun = times, nodes, 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Wait for the nodes, then start the clock."""
        messages = super().configure_train(server_round, arrays, config, grid)
        self._begun = time.perf_counter()
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Stop the clock, then add up."""
        seconds = time.perf_counter() - self._begun
        every = list(replies)
        complete = len(every) == self._nodes and not any(reply.has_error() for reply in every)
        with self._times.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"seconds": seconds, "complete": complete}) + "\n")
        return super().aggregate_train(server_round, every)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for the rounds that the run's configuration names."""
    config = context.run_config
    strategy = TimedFedAvg(Path(str(config["times"])), int(config["nodes"]))
    model = ArrayRecord([np.zeros(int(config["features"]) + 1)])
    strategy.start(grid=grid, initial_arrays=model, num_rounds=int(config["rounds"]), timeout=120)
