"""A running engine: requests to the child process that works with SEAL.

What it decides: the child's limits, and how a request is written. What it does not do: know what
is computed (`privacy.ckks.roles` does), or parse anything that SEAL wrote.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from privacy.child import Child, ChildLimits, EndsWithBlock
from privacy.ckks.parameters import Parameters

ENGINE = "privacy.ckks.engine:serve"

LIMITS = ChildLimits(memory=1 << 31, cpu_seconds=3600, frame_bytes=1 << 29)
"""2 GiB of address space, an hour of processor time, and 512 MiB for one request or answer."""

SECONDS = 600.0
"""How long one request may take."""


class Engine(EndsWithBlock):
    """A child that has its parameters; a context manager that ends it."""

    def __init__(self, child: Child) -> None:
        """Use `start_engine`."""
        self._child = child

    def ask(self, name: str, arguments: Mapping[str, Any], bodies: Sequence[bytes]) -> list[bytes]:
        """Sends one request and waits for its answer.

        Args:
            name: Which request.
            arguments: Plain JSON.
            bodies: What SEAL wrote, or float64 arrays.

        Raises:
            ChildError: As `privacy.child.Child.ask`.
        """
        message = [name.encode(), json.dumps(arguments).encode(), *bodies]
        return self._child.ask(message, seconds=SECONDS)

    def end(self) -> None:
        """Ends the child."""
        self._child.end()


def start_engine(parameters: Parameters, limits: ChildLimits = LIMITS) -> Engine:
    """Starts a child and gives it its parameters.

    Raises:
        ChildError: If it cannot be started, or SEAL refuses the parameters.
    """
    engine = Engine(Child.start(ENGINE, limits))
    try:
        engine.ask("set_parameters", parameters.to_json(), [])
    except BaseException:
        engine.end()
        raise
    return engine
