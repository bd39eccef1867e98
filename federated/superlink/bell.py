"""How both sides of a SuperLink hear of each other's messages, where something passes them on."""

from __future__ import annotations

import time
from typing import Protocol


class Bell(Protocol):
    """Saves whoever waits for messages from asking all the time."""

    def wait(self, seconds: float) -> None:
        """Wait so long, or until something may have come from a node."""

    def ring(self) -> None:
        """Say that something was sent to a node."""


class NoBell:
    """Nobody tells: whoever waits asks again."""

    def wait(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def ring(self) -> None:
        """Say nothing."""
