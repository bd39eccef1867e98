from tests.market import _market, _populated_market
from tests.postgres import _postgres, _postgres_log, _shared_postgres

__all__ = ["_market", "_populated_market", "_postgres", "_postgres_log", "_shared_postgres"]
