"""HTTP routes of enrolment, keys and participants."""

from __future__ import annotations

from fastapi import APIRouter

from ledger.statements import Participant as ParticipantStatement
from ledger.statements import Rotation
from marketplace.context import Ctx
from marketplace.participants import access, rotations, schemas, service
from marketplace.schemas import Recorded, StatementBody, StatementId

router = APIRouter(tags=["participants"])


@router.post("/enrolments", status_code=201, summary="Make a one-time enrolment code")
def post_enrolment(
    body: schemas.EnrolmentBody, _caller: access.Operator, context: Ctx
) -> schemas.EnrolmentCode:
    """Hand the code to the new participant; it is valid once, for 24 hours unless set otherwise."""
    with context.writing() as session:
        code, expires = service.issue_code(session, context, body.roles, body.note)
    return schemas.EnrolmentCode(code=code, expires=expires)


@router.post("/participants", status_code=201, summary="Enrol with a code and a signed statement")
def post_participant(body: schemas.EnrolBody, context: Ctx) -> schemas.Enrolled:
    """No API key is needed: the code is the permission, the signature shows the key is held."""
    verified = context.check(body.envelope(), ParticipantStatement)
    with context.writing() as session:
        secret = service.enrol(session, context, body.code, verified)
    index = context.logged(verified.id)
    return schemas.Enrolled(participant=verified.id, api_key=secret.text, index=index)


@router.get("/participants", summary="List all participants")
def get_participants(_caller: access.Enrolled, context: Ctx) -> list[schemas.ParticipantView]:
    """Names, roles and keys are known to every participant."""
    with context.reading() as session:
        return service.participants(session, context)


@router.get("/participants/{participant_id}", summary="Show one participant")
def get_participant(
    participant_id: StatementId, _caller: access.Enrolled, context: Ctx
) -> schemas.ParticipantView:
    """Show name, roles, key and its fingerprint."""
    with context.reading() as session:
        return service.participant(session, context, participant_id)


@router.post("/rotations", status_code=201, summary="Sign with a new key from now on")
def post_rotation(body: StatementBody, caller: access.Enrolled, context: Ctx) -> Recorded:
    """Replace your key, or your node's; signed by the old key or a recovery key, and the new."""
    verified = context.check(body.envelope(), Rotation)
    with context.writing() as session:
        rotation_id = rotations.rotate(session, context, caller, verified)
    return Recorded(id=rotation_id, index=context.logged(rotation_id))


@router.get("/me", summary="Show who this API key belongs to")
def get_me(caller: access.Enrolled, context: Ctx) -> schemas.Me:
    """Show the participant, its roles and the key's scopes."""
    with context.reading() as session:
        return service.me(session, caller)


@router.post("/keys", status_code=201, summary="Make a further API key with fewer scopes")
def post_key(body: schemas.KeyBody, caller: access.Enrolled, context: Ctx) -> schemas.NewKey:
    """A node, for one, needs only the scope `node`."""
    with context.writing() as session:
        secret = service.further_key(session, context, caller, body.scopes)
    return schemas.NewKey(public_id=secret.public_id, api_key=secret.text)


@router.delete("/keys/{public_id}", status_code=204, summary="End one of your API keys")
def delete_key(public_id: str, caller: access.Enrolled, context: Ctx) -> None:
    """From now on the key opens nothing."""
    with context.writing() as session:
        service.end_key(session, context, caller, public_id)
