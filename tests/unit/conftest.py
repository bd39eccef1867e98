from tests.postgres import _postgres, _postgres_log

__all__ = ["_postgres", "_postgres_log"]
