from tests.postgres import _postgres, _postgres_log, _shared_postgres

__all__ = ["_postgres", "_postgres_log", "_shared_postgres"]
