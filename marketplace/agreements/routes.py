"""HTTP routes of negotiations and agreements."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from ledger.statements import Agreement
from marketplace.agreements import schemas, service, uses
from marketplace.context import Ctx
from marketplace.participants import access
from marketplace.schemas import StatementBody, StatementId

router = APIRouter(tags=["agreements"])
NegotiationId = Annotated[str, Path(pattern=r"^negotiation:[0-9a-f]{64}$")]


@router.post("/negotiations", status_code=201, summary="Request an agreement on an offer")
def post_negotiation(
    body: schemas.NegotiationBody, caller: access.Researcher, context: Ctx
) -> schemas.NegotiationView:
    """Open a negotiation in the state REQUESTED."""
    with context.writing() as session:
        row = service.request(session, context, caller, body.offer, body)
    return service.view(context, row)


@router.post("/negotiations/{negotiation_id}/offer", summary="Offer other terms (provider)")
def post_counter_offer(
    negotiation_id: NegotiationId, body: schemas.Proposal, caller: access.Provider, context: Ctx
) -> schemas.NegotiationView:
    """Move REQUESTED to OFFERED."""
    with context.writing() as session:
        row = service.counter(session, context, caller, negotiation_id, body, "provider")
    return service.view(context, row)


@router.post("/negotiations/{negotiation_id}/request", summary="Request other terms (researcher)")
def post_counter_request(
    negotiation_id: NegotiationId, body: schemas.Proposal, caller: access.Researcher, context: Ctx
) -> schemas.NegotiationView:
    """Move OFFERED to REQUESTED."""
    with context.writing() as session:
        row = service.counter(session, context, caller, negotiation_id, body, "researcher")
    return service.view(context, row)


@router.post("/negotiations/{negotiation_id}/accept", summary="Accept the offer (researcher)")
def post_accept(
    negotiation_id: NegotiationId, caller: access.Researcher, context: Ctx
) -> schemas.NegotiationView:
    """Move OFFERED to ACCEPTED."""
    with context.writing() as session:
        row = service.accept(session, context, caller, negotiation_id)
    return service.view(context, row)


@router.post("/negotiations/{negotiation_id}/agreement", summary="Sign the agreement (provider)")
def post_agreement(
    negotiation_id: NegotiationId, body: StatementBody, caller: access.Provider, context: Ctx
) -> schemas.NegotiationView:
    """Move REQUESTED or ACCEPTED to AGREED, with the agreement signed by the provider alone."""
    with context.writing() as session:
        row = service.agree(session, context, caller, negotiation_id, body.envelope())
    return service.view(context, row)


@router.post("/negotiations/{negotiation_id}/verification", summary="Countersign (researcher)")
def post_verification(
    negotiation_id: NegotiationId, body: StatementBody, caller: access.Researcher, context: Ctx
) -> schemas.NegotiationView:
    """Move AGREED to VERIFIED with both signatures, log the agreement, and finalize."""
    verified = context.check(body.envelope(), Agreement)
    with context.writing() as session:
        agreement_id = service.verify(session, context, caller, negotiation_id, verified)
    context.logged(agreement_id)
    with context.writing() as session:
        row = service.finalize(session, context, caller, negotiation_id)
    return service.view(context, row)


@router.post("/negotiations/{negotiation_id}/finalize", summary="Finalize (provider)")
def post_finalize(
    negotiation_id: NegotiationId, caller: access.Provider, context: Ctx
) -> schemas.NegotiationView:
    """Move VERIFIED to FINALIZED; needed only if the service stopped in between."""
    with context.writing() as session:
        row = service.finalize(session, context, caller, negotiation_id)
    return service.view(context, row)


@router.post("/negotiations/{negotiation_id}/terminate", summary="End without agreement")
def post_terminate(
    negotiation_id: NegotiationId, body: schemas.TerminateBody, caller: access.Party, context: Ctx
) -> schemas.NegotiationView:
    """Move to TERMINATED; either side may."""
    with context.writing() as session:
        row = service.terminate(session, context, caller, negotiation_id, body.reason)
    return service.view(context, row)


@router.get("/negotiations", summary="List your negotiations")
def get_negotiations(caller: access.Party, context: Ctx) -> list[schemas.NegotiationView]:
    """Return those in which the caller is provider or researcher."""
    with context.reading() as session:
        return service.negotiations(session, context, caller)


@router.get("/negotiations/{negotiation_id}", summary="Show one of your negotiations")
def get_negotiation(
    negotiation_id: NegotiationId, caller: access.Party, context: Ctx
) -> schemas.NegotiationView:
    """Return it with what is on the table now."""
    with context.reading() as session:
        return service.negotiation(session, context, caller, negotiation_id)


@router.get("/agreements", summary="List your agreements")
def get_agreements(caller: access.Party, context: Ctx) -> list[schemas.AgreementView]:
    """Return each with its uses spent, reserved and left."""
    with context.reading() as session:
        return uses.agreements(session, context, caller)


@router.get("/agreements/{agreement_id}", summary="Show one of your agreements")
def get_agreement(
    agreement_id: StatementId, caller: access.Party, context: Ctx
) -> schemas.AgreementView:
    """Return it with its uses spent, reserved and left."""
    with context.reading() as session:
        return uses.agreement(session, context, caller, agreement_id)
