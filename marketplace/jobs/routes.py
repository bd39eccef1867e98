"""HTTP routes of jobs, grants, receipts and revocations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from ledger.statements import Grant, Job, Receipt, Revocation
from marketplace.context import Ctx
from marketplace.jobs import answers, events, inputs, revocations, schemas, service
from marketplace.participants import access
from marketplace.schemas import Recorded, StatementBody, StatementId

router = APIRouter(tags=["jobs"])

Digest = Annotated[str, Path(pattern="^sha256:[0-9a-f]{64}$")]


@router.get("/tasks", summary="List the computations that can be asked for")
def get_tasks() -> list[schemas.TaskView]:
    """Return name, version and whether contributions travel encrypted under the buyer's key."""
    return service.tasks()


@router.post(
    "/inputs", status_code=201, summary="Hand in what a job computes on", openapi_extra=inputs.BODY
)
async def post_input(
    request: Request, caller: access.Researcher, place: inputs.Place, context: Ctx
) -> schemas.InputView:
    """Keep bytes, encrypted rows or a public key, until the job that names their digest ends."""
    del place
    media_type = request.headers.get("content-type", "")
    content = await inputs.received(media_type, request.stream())
    return await run_in_threadpool(inputs.keep, context, caller, content)


@router.post("/jobs", status_code=201, summary="Submit a job")
def post_job(body: StatementBody, caller: access.Researcher, context: Ctx) -> schemas.Submitted:
    """Take a job signed by its researcher, and reserve one use of each agreement."""
    verified = context.check(body.envelope(), Job, lenient=True)
    caller.must_be(verified.statement.researcher)
    service.examine(context, verified.statement)
    with context.writing() as session:
        job = service.submit(session, context, caller, verified)
    return schemas.Submitted(job=job.id, index=context.logged(job.id), state=job.state)


@router.get("/jobs", summary="List jobs")
def get_jobs(caller: access.PartyOrOverseer, context: Ctx) -> list[schemas.JobView]:
    """Return a researcher's own jobs, those on a provider's assets, all for overseers."""
    with context.reading() as session:
        return service.jobs(session, caller)


@router.get("/jobs/{job_id}", summary="Show a job")
def get_job(job_id: StatementId, caller: access.PartyOrOverseer, context: Ctx) -> schemas.JobView:
    """Return its state, progress, parties, and the reason if it ended without a result."""
    with context.reading() as session:
        return service.job_view(session, caller, job_id)


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, 204: {"description": "Seen its end"}},
)
async def get_events(
    job_id: StatementId,
    caller: access.PartyOrOverseer,
    streams: events.Open,
    context: Ctx,
    last_event_id: Annotated[str, Header(max_length=64)] = "",
) -> Response:
    """Stream the job's view as events named `job`: now, at each change, and until its end."""
    watch = events.Watch(context, caller, job_id)
    first = await run_in_threadpool(watch.see)
    if first.ended and first.id == last_event_id:
        return Response(status_code=204)
    body = events.follow(watch, first, streams)
    return StreamingResponse(body, 200, events.HEADERS, "text/event-stream")


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job")
def post_cancel(job_id: StatementId, caller: access.Researcher, context: Ctx) -> schemas.JobView:
    """End an open job; reservations that no node has used are returned."""
    with context.writing() as session:
        service.cancel(session, context, caller, job_id)
        return service.job_view(session, caller, job_id)


@router.get(
    "/jobs/{job_id}/result",
    summary="Get the released document",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
)
def get_result(job_id: StatementId, caller: access.Party, context: Ctx) -> Response:
    """Return the exact bytes whose SHA-256 is in the release."""
    with context.reading() as session:
        release_id, document = service.released(session, caller, job_id)
    context.logged(release_id)
    return Response(document, media_type="application/json")


@router.get(
    "/jobs/{job_id}/inputs/{digest}",
    summary="Get what a job computes on",
    response_class=Response,
    responses={200: {"content": {inputs.MEDIA_TYPE: {}}}},
)
def get_input(
    job_id: StatementId, digest: Digest, caller: access.NodeOrProvider, context: Ctx
) -> Response:
    """Return bytes that the researcher handed in, for the nodes of the job; they verify them."""
    with context.reading() as session:
        content = service.job_input(session, caller, job_id, digest)
    return Response(content, media_type=inputs.MEDIA_TYPE)


@router.get("/jobs/{job_id}/contributions", summary="Get the contributions behind a result")
def get_contributions(
    job_id: StatementId, caller: access.Party, context: Ctx
) -> list[schemas.ContributionView]:
    """Return each node's masked or encrypted reply, or its report, to work the result out again."""
    with context.reading() as session:
        return service.contributions(session, caller, job_id)


@router.get("/jobs/{job_id}/openings", summary="Get what took the masks off the sums")
def get_openings(
    job_id: StatementId, caller: access.Party, context: Ctx
) -> list[schemas.OpeningView]:
    """Return each round's secrets, by which the contributions add up to the result."""
    with context.reading() as session:
        return service.openings(session, caller, job_id)


@router.get("/nodes/requests", summary="List jobs that wait for your grant")
def get_requests(caller: access.NodeOrProvider, context: Ctx) -> list[schemas.RequestView]:
    """Return jobs on the caller's assets that have neither its grant nor its refusal."""
    with context.reading() as session:
        return answers.requests(session, context, caller)


@router.post("/grants", status_code=201, summary="Permit one job")
def post_grant(body: StatementBody, caller: access.NodeOrProvider, context: Ctx) -> Recorded:
    """Take a grant signed by the provider."""
    verified = context.check(body.envelope(), Grant, lenient=True)
    with context.writing() as session:
        grant_id = answers.grant(session, context, caller, verified)
    return Recorded(id=grant_id, index=context.logged(grant_id))


@router.post("/receipts", status_code=201, summary="Hand in a receipt or refusal")
def post_receipt(body: StatementBody, caller: access.NodeOrProvider, context: Ctx) -> Recorded:
    """Take a receipt signed by the node of one of the caller's assets."""
    verified = context.check(body.envelope(), Receipt)
    with context.writing() as session:
        receipt_id = answers.receipt(session, context, caller, verified)
    return Recorded(id=receipt_id, index=context.logged(receipt_id))


@router.post("/revocations", status_code=201, summary="Revoke something of yours")
def post_revocation(body: StatementBody, caller: access.PartyOrOperator, context: Ctx) -> Recorded:
    """End a key, asset, offer, agreement or grant; jobs under way that rest on it stop."""
    verified = context.check(body.envelope(), Revocation)
    with context.writing() as session:
        revocation_id = revocations.revoke(session, context, caller, verified)
    return Recorded(id=revocation_id, index=context.logged(revocation_id))


@router.get("/assets/{asset_id}/uses", summary="List who used an asset")
def get_uses(
    asset_id: StatementId, caller: access.PartyOrOverseer, context: Ctx
) -> list[schemas.UseView]:
    """Return who asked, for which purpose, when and with which end; for its provider."""
    with context.reading() as session:
        return service.asset_uses(session, caller, asset_id)
