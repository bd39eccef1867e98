"""Times a round of the deployed way to run: operator, SuperLink and nodes as processes, over TLS.

    times = deployed_rounds(hospitals(), say=print)
    times.seconds               # median of the rounds, the first left out

A round is all its exchanges: from the moment the job is seen in it until it is seen in the next.
"""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.federated_stock import Exchange
from marketplace.client import ENDED
from marketplace.processes import Processes
from marketplace.scenario.parts import Scenario
from marketplace.scenario.stage import Stage
from marketplace.settings import Settings

LOOK = 0.02
JOB_SECONDS = 300.0


def deployed_rounds(scenario: Scenario, say: Callable[[str], None] = lambda _: None) -> Exchange:
    """Start every role as a process, run the scenario's last job, and time its rounds.

    Raises:
        RuntimeError: the job did not end with a result in time.
    """
    begun = time.perf_counter()
    folder = tempfile.TemporaryDirectory(prefix="rongshu-deployed-", ignore_cleanup_errors=True)
    with folder as name:
        market_folder = Path(name)
        settings = Settings(market_folder / "service")
        with Processes(market_folder, settings) as market:
            say("deployed: everybody enrols, each role a process")
            stage = Stage.set_up(market, scenario)
            for provider in scenario.providers:
                stage.seat(provider)
            for seat in stage.seats:
                stage.agree(seat)
            say("deployed: a job")
            return Exchange(_rounds(stage, scenario), time.perf_counter() - begun)


def _rounds(stage: Stage, scenario: Scenario) -> tuple[float, ...]:
    part = scenario.jobs[-1]
    job = stage.researcher.submit_job(
        name=part.name,
        task=part.task,
        parameters=part.parameters,
        preparation=scenario.preparation.to_json(),
        purpose=part.purpose,
        agreements=stage.agreements,
    )
    seen: dict[int, float] = {}
    end = time.perf_counter() + JOB_SECONDS
    while time.perf_counter() < end:
        view = stage.researcher.job(job)
        progress, now = view["progress"], time.perf_counter()
        if view["state"] in ENDED:
            if view["state"] != "released":
                raise RuntimeError(f"the deployed job is {view['state']}: {view['error']}")
            starts = [seen[number] for number in sorted(seen)]
            return tuple(b - a for a, b in itertools.pairwise(starts))
        # A round begins with its first answers; keys and the end have no question.
        if progress.get("step") not in (None, "keys", "shares", "finish", "end"):
            seen.setdefault(progress["round"], now)
        time.sleep(LOOK)
    raise RuntimeError(f"the deployed job did not end within {JOB_SECONDS:.0f} s")
