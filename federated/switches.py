"""Flower's switches, set before anything imports it: no telemetry, no look for updates.

Called by entry points alone, and by the tests' set-up: the environment is a process's own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def quiet_flower() -> None:
    """Set the switches that are not set yet."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    os.environ.setdefault("FLWR_HOME", str(Path(tempfile.gettempdir()) / "rongshu-flower"))
