"""A PostgreSQL database of a test's own, where there is a server to make one on.

The server is the one that RONGSHU_TEST_POSTGRES names (a URL whose role may create databases), or
else one that answers on this machine's usual socket. Where there is none, the test is skipped and
says so. Each database is dropped after its test.
"""

import os
import secrets
import time
from collections.abc import Iterator
from functools import cache

import pytest
import sqlalchemy as sa
from psycopg.errors import InsufficientPrivilege

from ledger import store
from marketplace.database import make_engine, postgresql_url

VARIABLE = "RONGSHU_TEST_POSTGRES"
DROP_SECONDS = 30.0
LOCAL = "postgresql:///postgres?host=/var/run/postgresql"


@cache
def server() -> tuple[str, str]:
    """URL of a server on which databases can be made, and why there is none."""
    url = os.environ.get(VARIABLE, LOCAL)
    try:
        with _administration(url).connect() as connection:
            query = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            if connection.exec_driver_sql(query).scalar():
                return url, ""
            return "", "its role may not create databases"
    except sa.exc.OperationalError as error:
        if VARIABLE in os.environ:
            raise
        return "", f"no PostgreSQL answers here ({type(error.orig).__name__}); {VARIABLE} names one"


def _administration(url: str) -> sa.Engine:
    return sa.create_engine(
        postgresql_url(url),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,
        connect_args={"connect_timeout": 5},
    )


def new_database() -> str:
    """Make an empty database and return its URL."""
    url, why_not = server()
    if why_not:
        pytest.skip(why_not)
    name = f"rongshu_test_{secrets.token_hex(6)}"
    with _administration(url).connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return postgresql_url(url).set(database=name).render_as_string(hide_password=False)


def drop_database(url: str) -> None:
    """Drop what `new_database` made, whoever is still connected to it."""
    name = sa.make_url(url).database
    end = time.monotonic() + DROP_SECONDS
    with _administration(server()[0]).connect() as connection:
        while True:
            try:
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            except sa.exc.ProgrammingError as error:
                # The server's own vacuum may be at it, which only a superuser may send away.
                if not isinstance(error.orig, InsufficientPrivilege) or time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return


@pytest.fixture(name="postgres")
def _postgres() -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    url = new_database()
    yield url
    drop_database(url)


@pytest.fixture(scope="session", name="shared_postgres")
def _shared_postgres() -> Iterator[sa.Engine]:
    """An engine for a database that many tests use, one after the other."""
    url = new_database()
    engine = make_engine(url)
    yield engine
    engine.dispose()
    drop_database(url)


@pytest.fixture(name="postgres_log")
def _postgres_log(shared_postgres: sa.Engine) -> sa.Engine:
    """An engine for a PostgreSQL database with the log's empty tables alone."""
    with shared_postgres.begin() as connection:
        # Making a database takes a second, these take a hundredth.
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    store.metadata.create_all(shared_postgres)
    return shared_postgres
