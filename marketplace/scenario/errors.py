"""What can be wrong with a scenario file."""

from __future__ import annotations

from marketplace.errors import MarketplaceError


class ScenarioError(MarketplaceError):
    """The scenario file cannot be meant; the message names the file and the field."""

    default_code = "scenario"
