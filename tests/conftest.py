import os
import tempfile

# Flower reads these once, when it is first imported: they stand before every other import.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["FLWR_HOME"] = tempfile.mkdtemp(prefix="rongshu-flwr-")

import shutil

import pytest
from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code. In CI every run tries the same examples, so a red
# run can be repeated; at the desk each run tries new ones.
settings.register_profile(
    "quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True, max_examples=100)
settings.load_profile("ci" if os.environ.get("CI") else "quick")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove Flower's folder at the very end."""
    del config
    shutil.rmtree(os.environ["FLWR_HOME"], ignore_errors=True)
