"""The composition root: the only file that knows every feature.

    app = create_app(Settings.load(Path("data")), engine=engine)
    uvicorn.run(app, host="127.0.0.1", port=8448)

Building the app touches nothing. Its lifespan opens the database, makes the keys and enrols the
operator at the first start, runs the log's sequencer, the job worker and the watch over deadlines,
and stops them at the end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from pydantic import BaseModel

from federated.errors import SuperLinkError
from federated.presence import Presence
from federated.scoring_limits import MOST_INPUT_BYTES
from ledger.cosigning import Cosigner
from ledger.errors import LogError
from ledger.log import Log
from ledger.publisher import only_writer
from marketplace import erasure, log_routes, problems
from marketplace.agreements import routes as agreements
from marketplace.catalog import routes as catalog
from marketplace.context import Context, Ctx
from marketplace.database import open_database
from marketplace.epochs import routes as epochs
from marketplace.epochs import service as epochs_service
from marketplace.epochs.indexer import Indexer
from marketplace.fleet import routes as fleet
from marketplace.fleet import service as fleet_service
from marketplace.fleet.link import Link
from marketplace.fleet.proxy import REPLY, Proxy
from marketplace.jobs import events
from marketplace.jobs import routes as jobs
from marketplace.jobs.deadlines import Deadlines
from marketplace.jobs.engine import JobEngine
from marketplace.jobs.inputs import Leftovers, Uploads
from marketplace.jobs.worker import Worker
from marketplace.participants import bootstrap
from marketplace.participants import routes as participants
from marketplace.settings import Settings
from marketplace.settlement import routes as settlement
from marketplace.settlement.service import settle
from marketplace.witnesses import cosigner, kept_fresh

if TYPE_CHECKING:
    from federated.coordinator import Grid

VERSION = "0.1.0"
PREFIX = "/v1"
DESCRIPTION = """
A marketplace for data elements that stay usable but invisible.

Every fact is a statement signed by its author and sent as a DSSE envelope; the service never signs
for a party. An answer with an `index` means that a checkpoint of the public log covers it.
"""
_logger = logging.getLogger(__name__)


class Health(BaseModel):
    """The service runs, and its log has this many entries under a checkpoint."""

    status: Literal["ok"]
    version: str
    log_size: int


def now_ms() -> int:
    """Return the system's time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def create_app(
    settings: Settings,
    *,
    engine: JobEngine | None = None,
    link: Link | None = None,
    clock: Callable[[], int] = now_ms,
    insecure_skip_checks: bool = False,
) -> FastAPI:
    """Return the service's ASGI application.

    Args:
        settings: how it runs.
        engine: what computes jobs; without one and without a link, granted jobs wait.
        link: the SuperLink over which nodes compute; instead of an engine.
        clock: returns Unix milliseconds.
        insecure_skip_checks: for tests alone. The operator takes jobs and grants without holding
            them against terms, quotas, code and log rules, as a dishonest one would; signatures
            are still verified. It shows that nodes refuse by themselves.
    """
    app = FastAPI(
        title="Rongshu",
        version=VERSION,
        description=DESCRIPTION,
        responses=problems.RESPONSES,
        docs_url=f"{PREFIX}/docs",
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
    )
    app.state.link, app.state.presence = link, Presence(time.monotonic)
    app.state.proxy = None if link is None else Proxy(link)
    engine = engine if link is None else _over_superlink(app, link, settings)
    app.router.lifespan_context = _lifespan(
        settings, engine, clock, insecure_skip_checks=insecure_skip_checks
    )
    # Routes are tried in this order: what every node reads in every round stands first.
    for router in (
        log_routes.router,
        jobs.router,
        participants.router,
        catalog.router,
        agreements.router,
        settlement.router,
        epochs.router,
        fleet.router,
        _health_router(),
    ):
        app.include_router(router, prefix=PREFIX)
    problems.install(app)
    larger = {
        f"{PREFIX}/inputs": MOST_INPUT_BYTES,
        f"{PREFIX}/fleet/{REPLY}": settings.max_reply_bytes,
    }
    app.add_middleware(problems.BodyLimit, limit=settings.max_body_bytes, larger=larger)
    return app


def preflight(settings: Settings) -> None:
    """Open database and keys once, as the start will; for a command that reports errors in a line.

    Raises:
        DatabaseError, KeyMissingError, LedgerError: the data folder must not be used.
    """
    database = open_database(settings.where, settings.busy_seconds)
    try:
        log_key = bootstrap.log_key(settings, database)
        cosigner(settings, log_key.verify_key, now_ms)
        bootstrap.operator_key(settings, database)
    finally:
        database.dispose()


@contextmanager
def running(
    settings: Settings,
    engine: JobEngine | None,
    clock: Callable[[], int],
    *,
    prepare: Callable[[Context], None] = lambda _: None,
    insecure_skip_checks: bool = False,
) -> Iterator[Context]:
    """Run log and worker over a data folder, and yield the context that the routes work with.

    Args:
        settings: of the service.
        engine: what computes, if anything.
        clock: returns Unix milliseconds.
        prepare: called with the context before the worker begins: it takes over at once what was
            running when the service ended.
        insecure_skip_checks: see `create_app`.

    Raises:
        DatabaseError, KeyMissingError, LedgerError: the data folder must not be used.
    """
    with only_writer(settings.log_folder):
        database = open_database(settings.where, settings.busy_seconds)
        log, cosign = _open_log(settings, database, clock)
        context = Context(
            settings=settings,
            engine=database,
            log=log,
            clock=clock,
            operator="",
            operator_key=bootstrap.operator_key(settings, database),
            insecure_skip_checks=insecure_skip_checks,
        )
        context = bootstrap.enrol_operator(context)
        epochs_service.begin(context)
        context.log.start()
        worker = Worker(context, engine, settle) if engine is not None else None
        indexer, deadlines, leftovers = Indexer(context), Deadlines(context), Leftovers(context)
        try:
            _await_operator(context)
            prepare(context)
            if worker is not None:
                worker.start()
            indexer.start()
            deadlines.start()
            leftovers.start()
            with kept_fresh(context.log, settings.cosign_seconds) if cosign else nullcontext():
                yield context
        finally:
            leftovers.stop()
            deadlines.stop()
            indexer.stop()
            if worker is not None:
                worker.stop()
            context.log.stop()
            database.dispose()


def _open_log(
    settings: Settings, database: sa.Engine, clock: Callable[[], int]
) -> tuple[Log, Cosigner | None]:
    log_key = bootstrap.log_key(settings, database)
    cosign = cosigner(settings, log_key.verify_key, clock)
    log = Log(database, log_key, settings.log_folder, clock, cosign=cosign)
    if erasure.finish(settings, database, log):
        # A crash came between; what was erased now must not stay in memory either.
        log.stop()
        log = Log(database, log_key, settings.log_folder, clock, cosign=cosign)
    return log, cosign


def _await_operator(context: Context) -> None:
    """Wait until the log shows the operator's own enrolment; without a quorum it never would."""
    try:
        context.logged(context.operator)
    except LogError as error:
        failure = context.log.cosigning_failure
        raise LogError(f"the log shows nothing: {failure}") if failure else error from None


def _lifespan(
    settings: Settings,
    engine: JobEngine | None,
    clock: Callable[[], int],
    *,
    insecure_skip_checks: bool,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        link: Link | None = app.state.link

        def prepare(context: Context) -> None:
            app.state.context = context
            if link is not None:
                link.at_start(partial(fleet_service.remind, context))

        skip = insecure_skip_checks
        life = running(settings, engine, clock, prepare=prepare, insecure_skip_checks=skip)
        try:
            async with contextmanager_in_threadpool(life) as context:
                if link is not None:
                    # Nodes that are there will ask; whoever needs it earlier waits for it.
                    begin = partial(_begin, context, link)
                    threading.Thread(target=begin, name="superlink-start", daemon=True).start()
                app.state.streams = events.Streams(settings.streams_per_caller)
                app.state.uploads = Uploads()
                try:
                    yield
                finally:
                    # First of all: whoever serves the app waits for the answers under way.
                    app.state.streams.close()
        finally:
            # After the worker, whose job under way needs it.
            if link is not None:
                await run_in_threadpool(link.stop)

    return lifespan


def _begin(context: Context, link: Link) -> None:
    try:
        if fleet_service.has_nodes(context):
            link.start()
    except SuperLinkError as error:
        _logger.warning("%s; it is tried again when a node enrols or a job runs", error)


def _over_superlink(app: FastAPI, link: Link, settings: Settings) -> JobEngine:
    """Return an engine whose nodes are reached over a SuperLink."""
    # Imported here: a service that computes nothing needs no Flower.
    from marketplace.jobs.grid_engine import GridEngine  # noqa: PLC0415

    @contextmanager
    def open_grid(assets: tuple[str, ...]) -> Iterator[tuple[Grid, Mapping[str, int]]]:
        context: Context = app.state.context
        # Started first: a node's number may be another one afterwards.
        runs = link.start()
        with context.reading() as session:
            seats = fleet_service.seats(session, assets)
        with runs.begin() as grid:
            yield grid, seats

    return GridEngine(open_grid, watch=app.state.presence, rejoin=settings.rejoin_seconds)


def _health_router() -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health", summary="See whether the service runs")
    def get_health(context: Ctx) -> Health:
        """Need no key."""
        return Health(status="ok", version=VERSION, log_size=context.log.size)

    return router
