"""Submitting, cancelling and looking at jobs."""

from __future__ import annotations

import inspect

from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from federated.code import code_digest
from federated.planning import plan_of
from federated.preparation import Preparation
from federated.tasks import AnyTask, JointTask, known_tasks
from ledger.encoding import b64encode
from ledger.statements import Agreement as AgreementStatement
from ledger.statements import Asset as AssetStatement
from ledger.statements import Job as JobStatement
from ledger.statements import Participant as ParticipantStatement
from ledger.terms import Request
from marketplace.agreements import uses
from marketplace.catalog.tables import Asset
from marketplace.context import Context, Verified, load
from marketplace.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TermsError,
)
from marketplace.jobs import inputs, moves, queue, schemas, states
from marketplace.jobs.tables import (
    Job,
    JobContribution,
    JobKeyHolder,
    JobOpening,
    JobParty,
    Result,
)
from marketplace.participants.access import Caller, still_enrolled
from marketplace.participants.service import names
from marketplace.participants.tables import Participant
from privacy.errors import WeakKeyError
from privacy.paillier import named_holders, public_half


def readable(caller: Caller) -> SelectOfScalar[Job]:
    """Return the query that every look at jobs starts from.

    The researcher's own, those that use a provider's assets, those whose result is under a key that
    the caller holds a share of, and all for auditors and operator.
    """
    if caller.sees_all:
        return select(Job)
    asked = select(JobParty.job_id).where(JobParty.provider_id == caller.id)
    held = select(JobKeyHolder.job_id).where(JobKeyHolder.participant_id == caller.id)
    own = Job.researcher_id == caller.id
    return select(Job).where(or_(own, col(Job.id).in_(asked), col(Job.id).in_(held)))


def tasks() -> list[schemas.TaskView]:
    """Return the computations that can be asked for."""
    return [
        schemas.TaskView(
            name=task.name, version=task.version, summary=_summary(task), encrypted=task.encrypted
        )
        for task in known_tasks().values()
    ]


def examine(context: Context, job: JobStatement) -> None:
    """Hold a job against this installation and the data cards; the terms come at reservation.

    Raises:
        TermsError: `code_unknown`, `row_selection_not_allowed`, or `grant_mismatch` where the
            agreements ask for another key.
        FederatedError: an unknown task, or one that these data cards cannot serve.
        InvalidError: a key for encryption where none is used, none where one is, or one that is
            refused; a key whose holders are not others than researcher and operator.
    """
    if context.insecure_skip_checks:
        return
    assets = {asset: context.find(asset, AssetStatement) for asset in job.assets}
    task, plan = plan_of(job, assets)
    if job.code_digest != code_digest(job.task, job.task_version):
        raise TermsError("this code is not installed at the operator", code="code_unknown")
    if task.encrypted != (job.encryption_key is not None):
        word = "needs" if task.encrypted else "takes no"
        raise InvalidError(f"the task {task.name} {word} encryption_key", code="encryption_key")
    if job.encryption_key is not None:
        _examine_key(context, job, plan.preparation)
    for agreement_id in job.agreements:
        if context.find(agreement_id, AgreementStatement).preparation != job.preparation:
            raise TermsError(
                f"the agreement {agreement_id} fixes another preparation",
                code="row_selection_not_allowed",
            )


def _examine_key(context: Context, job: JobStatement, agreed: Preparation) -> None:
    """Hold the key of an encrypted job against what can be seen of a key, and of its holders."""
    try:
        public_half(job.encryption_key)
    except WeakKeyError as error:
        raise InvalidError(str(error), code="encryption_key") from None
    if agreed.shared_key and (missing := agreed.shared_key.missing(job.encryption_key)):
        raise TermsError(missing, code="grant_mismatch")
    for holder in sorted(named_holders(job.encryption_key)):
        try:
            context.find(holder, ParticipantStatement)
        except NotFoundError:
            raise InvalidError(
                f"the key's holder {holder} is no participant", code="encryption_key"
            ) from None
        if holder in (job.researcher, context.operator):
            raise InvalidError(
                "neither researcher nor operator holds a share of the key", code="encryption_key"
            )


def submit(
    session: Session, context: Context, caller: Caller, verified: Verified[JobStatement]
) -> Job:
    """Store a job and reserve one use of each agreement, all or nothing.

    The same statement again changes nothing.

    Raises:
        ForbiddenError: the job is another researcher's.
        LimitError: the researcher has as many open jobs as one may have.
        InvalidError: an input that the job names was not handed in.
        TermsError: the terms of an agreement do not permit it; `code` is the reason.
    """
    statement, now = verified.statement, context.clock()
    caller.must_be(statement.researcher)
    still_enrolled(session, caller)
    stored = session.get(Job, verified.id)
    if stored is not None:
        return stored
    queue.must_have_room(session, caller.id, context.settings.open_per_researcher)
    job = Job(
        id=verified.id,
        researcher_id=caller.id,
        name=statement.name,
        task=statement.task,
        purpose=statement.purpose,
        state=states.INITIAL,
        created=now,
    )
    session.add(job)
    session.flush()
    request = Request(
        task=statement.task,
        purpose=statement.purpose,
        recipient=caller.id,
        parties=context.log.history.providers(statement),
        exact=True,
        time=now,
    )
    pairs = zip(statement.assets, statement.agreements, strict=True)
    for position, (asset, agreement_id) in enumerate(pairs):
        agreement = uses.reserve(session, context, agreement_id, job.id, request)
        session.add(
            JobParty(
                job_id=job.id,
                asset_id=asset,
                agreement_id=agreement.id,
                provider_id=agreement.provider_id,
                position=position,
            )
        )
    for holder in named_holders(statement.encryption_key):
        # Examined before; without the operator's checks a job may name anybody.
        if session.get(Participant, holder) is not None:
            session.add(JobKeyHolder(job_id=job.id, participant_id=holder))
    session.flush()
    inputs.claim(session, job, _named(statement), lenient=context.insecure_skip_checks)
    context.submit(session, verified.envelope)
    return job


def _named(job: JobStatement) -> tuple[str, ...]:
    """Return the digests of what a job's researcher hands in for it."""
    task = known_tasks().get(job.task)
    return task.inputs(job.parameters) if isinstance(task, JointTask) else ()


def job_input(session: Session, caller: Caller, job_id: str, digest: str) -> bytes:
    """Return an input of a job that the caller sees; deleted when the job has ended.

    Raises:
        NotFoundError: no such job or input.
    """
    content = inputs.content_of(session, _readable(session, caller, job_id), digest)
    if content is None:
        raise NotFoundError("the job has no such input, or has ended")
    return content


def cancel(session: Session, context: Context, caller: Caller, job_id: str) -> None:
    """End a job at the wish of its researcher.

    Raises:
        NotFoundError: not a job that the caller sees.
        ForbiddenError: somebody else's.
        TransitionError: it has ended.
    """
    job = _readable(session, caller, job_id)
    if job.researcher_id != caller.id:
        raise ForbiddenError("only its researcher can cancel a job")
    moves.end(
        session,
        context,
        job,
        "cancelled",
        reason="cancelled",
        message="cancelled by the researcher",
        others="cancelled",
    )


def jobs(session: Session, caller: Caller) -> list[schemas.JobView]:
    """Return the jobs that the caller may see, newest first."""
    query = readable(caller).order_by(col(Job.created).desc(), col(Job.id))
    known = names(session)
    return [_view(session, job, known) for job in session.exec(query).all()]


def job_view(session: Session, caller: Caller, job_id: str) -> schemas.JobView:
    """Return one job.

    Raises:
        NotFoundError: not a job that the caller sees.
    """
    return _view(session, _readable(session, caller, job_id), names(session))


def released(session: Session, caller: Caller, job_id: str) -> tuple[str, bytes]:
    """Return the id of a job's release and the released document.

    Raises:
        NotFoundError: not a job that the caller sees.
        ForbiddenError: neither the caller's own nor one whose key it holds a share of.
        ConflictError: nothing was released.
    """
    job = _computed_for(session, caller, job_id)
    result = session.get(Result, job_id)
    if job.release_id is None or result is None:
        raise ConflictError(f"nothing was released: the job is {job.state}", code="not_released")
    return job.release_id, result.document


def contributions(session: Session, caller: Caller, job_id: str) -> list[schemas.ContributionView]:
    """Return what each node sent, for whoever gets the result to add up again; in round order.

    Of a joint job, the last round: nobody but its nodes can read what they said to each other.

    Raises:
        NotFoundError: as `released`.
        ConflictError: nothing was released.
    """
    released(session, caller, job_id)
    query = (
        select(JobContribution)
        .where(JobContribution.job_id == job_id)
        .order_by(col(JobContribution.round), col(JobContribution.asset_id))
    )
    return [
        schemas.ContributionView(
            asset=row.asset_id,
            round=row.round,
            request=b64encode(row.request),
            reply=b64encode(row.reply),
        )
        for row in session.exec(query).all()
    ]


def openings(session: Session, caller: Caller, job_id: str) -> list[schemas.OpeningView]:
    """Return what took the masks off each round's sum, for whoever gets the result to do it again.

    Raises:
        NotFoundError: as `released`.
        ConflictError: nothing was released.
    """
    released(session, caller, job_id)
    query = select(JobOpening).where(JobOpening.job_id == job_id).order_by(col(JobOpening.round))
    return [
        schemas.OpeningView(round=row.round, secrets=load(row.secrets.decode()))
        for row in session.exec(query).all()
    ]


def asset_uses(session: Session, caller: Caller, asset_id: str) -> list[schemas.UseView]:
    """Return who used an asset, newest first.

    Raises:
        NotFoundError: no such asset, or another provider's.
    """
    asset = session.get(Asset, asset_id)
    if asset is None or not (caller.sees_all or asset.provider_id == caller.id):
        raise NotFoundError("there is no such asset of yours")
    known = names(session)
    query = (
        select(Job, JobParty)
        .where(JobParty.job_id == Job.id, JobParty.asset_id == asset_id)
        .order_by(col(Job.created).desc(), col(Job.id))
    )
    return [
        schemas.UseView(
            job=job.id,
            name=job.name,
            researcher=job.researcher_id,
            researcher_name=known[job.researcher_id],
            task=job.task,
            purpose=job.purpose,
            state=party.state,
            reason=party.reason,
            receipt=party.receipt_id,
            created=job.created,
            finished=job.finished,
        )
        for job, party in session.exec(query).all()
    ]


def _readable(session: Session, caller: Caller, job_id: str) -> Job:
    job = session.exec(readable(caller).where(Job.id == job_id)).first()
    if job is None:
        raise NotFoundError("there is no such job")
    return job


def _computed_for(session: Session, caller: Caller, job_id: str) -> Job:
    """Return a job whose result the caller gets, as its researcher or as a holder of its key."""
    job = _readable(session, caller, job_id)
    held = session.get(JobKeyHolder, (job_id, caller.id))
    if job.researcher_id != caller.id and held is None:
        raise ForbiddenError("what a job computed is for its researcher and its key's holders")
    return job


def _view(session: Session, job: Job, known: dict[str, str]) -> schemas.JobView:
    error = None
    if job.error_reason is not None:
        error = schemas.ErrorView(reason=job.error_reason, message=job.error_message or "")
    return schemas.JobView(
        job=job.id,
        name=job.name,
        task=job.task,
        state=job.state,
        purpose=job.purpose,
        researcher=job.researcher_id,
        progress=load(job.progress),
        parties=[
            schemas.PartyView(
                asset=party.asset_id,
                provider=party.provider_id,
                provider_name=known[party.provider_id],
                state=party.state,
                reason=party.reason,
                grant=party.grant_id,
                receipt=party.receipt_id,
            )
            for party in moves.parties(session, job.id)
        ],
        error=error,
        release=job.release_id,
        created=job.created,
        finished=job.finished,
    )


def _summary(task: AnyTask) -> str:
    module = inspect.getmodule(type(task))
    first = (inspect.getdoc(module) or task.name).partition("\n")[0]
    return first.partition(": ")[2] or first
