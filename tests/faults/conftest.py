from tests.market import _market, _populated_market

__all__ = ["_market", "_populated_market"]
