"""Negotiating an agreement, move by move; see `states` for the moves that exist."""

from __future__ import annotations

import secrets
from typing import Any

from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from federated.errors import PreparationError
from federated.preparation import Preparation
from ledger.encoding import canonical
from ledger.errors import EncodingError
from ledger.statements import Agreement as AgreementStatement
from ledger.statements import read
from ledger.statements.envelope import as_json, raw_open
from ledger.terms import Terms
from marketplace.agreements import states
from marketplace.agreements.schemas import NegotiationView, Proposal
from marketplace.agreements.tables import Agreement, Negotiation
from marketplace.catalog.tables import Asset, Offer
from marketplace.context import Context, Verified, load
from marketplace.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from marketplace.participants.access import Caller, still_enrolled


def readable(caller: Caller) -> SelectOfScalar[Negotiation]:
    """Return the query that every look at negotiations starts from: the caller's own."""
    return select(Negotiation).where(
        or_(Negotiation.provider_id == caller.id, Negotiation.researcher_id == caller.id)
    )


def request(
    session: Session, context: Context, caller: Caller, offer_id: str, proposal: Proposal
) -> Negotiation:
    """Open a negotiation as a researcher.

    Raises:
        NotFoundError: no such offer.
        ConflictError: the offer or the asset was withdrawn, or is the caller's own.
        InvalidError: terms or preparation are none.
    """
    offer = session.get(Offer, offer_id)
    if offer is None:
        raise NotFoundError("there is no such offer")
    _in_force(session, offer)
    if offer.provider_id == caller.id:
        raise ConflictError("nobody negotiates with itself", code="own_offer")
    now = context.clock()
    row = Negotiation(
        id=f"negotiation:{secrets.token_hex(32)}",
        offer_id=offer.id,
        asset_id=offer.asset_id,
        provider_id=offer.provider_id,
        researcher_id=caller.id,
        state=states.INITIAL,
        terms="",
        preparation="",
        price_cents=0,
        created=now,
        updated=now,
    )
    _put(row, proposal)
    session.add(row)
    return row


def counter(
    session: Session,
    context: Context,
    caller: Caller,
    negotiation_id: str,
    proposal: Proposal,
    acting: states.Role,
) -> Negotiation:
    """Put other terms on the table: a provider's offer, or a researcher's request.

    `acting` is the side that the caller speaks for; it must be on it.

    Raises:
        ForbiddenError: the caller is on the other side.
        TransitionError: it is not this side's turn to do that.
        InvalidError: terms or preparation are none.
    """
    row, role = _mine(session, caller, negotiation_id)
    if role != acting:
        raise ForbiddenError(f"only the {acting} of this negotiation can do that")
    _move(context, row, "OFFERED" if role == "provider" else "REQUESTED", role)
    _put(row, proposal)
    return row


def accept(session: Session, context: Context, caller: Caller, negotiation_id: str) -> Negotiation:
    """Accept the provider's latest offer, as the researcher.

    Raises:
        TransitionError: there is no offer to accept.
    """
    row, role = _mine(session, caller, negotiation_id)
    _move(context, row, "ACCEPTED", role)
    return row


def terminate(
    session: Session, context: Context, caller: Caller, negotiation_id: str, reason: str
) -> Negotiation:
    """End a negotiation without agreement.

    Raises:
        TransitionError: it has ended, or both have signed: revoke the agreement instead.
    """
    row, role = _mine(session, caller, negotiation_id)
    _move(context, row, "TERMINATED", role)
    row.reason = reason
    return row


def agree(
    session: Session, context: Context, caller: Caller, negotiation_id: str, envelope: bytes
) -> Negotiation:
    """Take the agreement as the provider signed it.

    Raises:
        TransitionError: not the provider's turn.
        SignatureError: not signed by exactly the provider.
        InvalidError: it is not what is on the table.
    """
    row, role = _mine(session, caller, negotiation_id)
    _move(context, row, "AGREED", role)
    found = read(envelope)
    if not isinstance(found.statement, AgreementStatement):
        raise InvalidError("here an agreement is expected", code="wrong_kind")
    found.verify(context.log.history.participant_key(row.provider_id))
    _same_as_table(context, row, found.statement)
    row.proposal = envelope
    return row


def verify(
    session: Session,
    context: Context,
    caller: Caller,
    negotiation_id: str,
    verified: Verified[AgreementStatement],
) -> str:
    """Take the agreement with both signatures; it goes into the log. Returns its id.

    Raises:
        TransitionError: not the researcher's turn.
        InvalidError: it is not what the provider signed.
        ConflictError: the offer or the asset was withdrawn meanwhile.
    """
    row, role = _mine(session, caller, negotiation_id)
    still_enrolled(session, caller)
    _move(context, row, "VERIFIED", role)
    if row.proposal is None or raw_open(row.proposal).body != raw_open(verified.envelope).body:
        raise InvalidError("this is not the agreement that the provider signed", code="not_same")
    _in_force(session, session.get_one(Offer, row.offer_id))
    session.add(
        Agreement(
            id=verified.id,
            negotiation_id=row.id,
            asset_id=row.asset_id,
            provider_id=row.provider_id,
            researcher_id=row.researcher_id,
            created=context.clock(),
        )
    )
    session.flush()
    row.agreement_id = verified.id
    return context.submit(session, verified.envelope)


def finalize(
    session: Session, context: Context, caller: Caller, negotiation_id: str
) -> Negotiation:
    """Close a negotiation whose agreement the log covers.

    The provider's signature on that very agreement is its verification, so the service makes the
    move for it; a provider may make it too, should the service have stopped before.

    Raises:
        TransitionError: both have not signed yet.
        NotFoundError: the log does not cover the agreement yet.
    """
    row, _ = _mine(session, caller, negotiation_id)
    _move(context, row, "FINALIZED", "provider")
    context.entry(row.agreement_id or "")
    return row


def negotiations(session: Session, context: Context, caller: Caller) -> list[NegotiationView]:
    """Return the caller's negotiations, oldest first."""
    query = readable(caller).order_by(col(Negotiation.created), col(Negotiation.id))
    return [view(context, row) for row in session.exec(query).all()]


def negotiation(
    session: Session, context: Context, caller: Caller, negotiation_id: str
) -> NegotiationView:
    """Return one of the caller's negotiations.

    Raises:
        NotFoundError: the caller has none with this id.
    """
    return view(context, _mine(session, caller, negotiation_id)[0])


def view(context: Context, row: Negotiation) -> NegotiationView:
    """Return a negotiation as its parties see it."""
    logged = context.log.history.by_id.get(row.agreement_id or "")
    return NegotiationView(
        id=row.id,
        state=row.state,
        offer=row.offer_id,
        asset=row.asset_id,
        provider=row.provider_id,
        researcher=row.researcher_id,
        terms=load(row.terms),
        preparation=load(row.preparation),
        price_cents=row.price_cents,
        fee_ppm=context.settings.fee_ppm,
        proposal=as_json(raw_open(row.proposal)) if row.proposal else None,
        agreement=row.agreement_id,
        index=logged.index if logged else None,
        reason=row.reason,
        created=row.created,
        updated=row.updated,
    )


def _mine(session: Session, caller: Caller, negotiation_id: str) -> tuple[Negotiation, states.Role]:
    row = session.exec(readable(caller).where(Negotiation.id == negotiation_id)).first()
    if row is None:
        raise NotFoundError("there is no such negotiation")
    return row, "provider" if row.provider_id == caller.id else "researcher"


def _move(context: Context, row: Negotiation, state: states.State, role: str) -> None:
    states.check(row.state, state, role)
    row.state = state
    row.updated = context.clock()


def _put(row: Negotiation, proposal: Proposal) -> None:
    terms = Terms.from_payload(proposal.terms, "terms")
    row.terms = canonical(terms.payload()).decode()
    row.preparation = canonical(_preparation(proposal.preparation)).decode()
    row.price_cents = proposal.price_cents
    row.proposal = None


def _preparation(value: dict[str, Any]) -> dict[str, Any]:
    try:
        Preparation.parse(value)
        canonical(value)
    except PreparationError as error:
        raise InvalidError(f"preparation.{error}", code="bad_preparation") from error
    except EncodingError as error:
        raise InvalidError(f"preparation: {error}", code="bad_preparation") from error
    return value


def _same_as_table(context: Context, row: Negotiation, statement: AgreementStatement) -> None:
    pairs: dict[str, tuple[Any, Any]] = {
        "provider": (statement.provider, row.provider_id),
        "researcher": (statement.researcher, row.researcher_id),
        "asset": (statement.asset, row.asset_id),
        "offer": (statement.offer, row.offer_id),
        "terms": (statement.terms.payload(), load(row.terms)),
        # Compared as what they mean: 0.66 may be written as a number here, never in a statement.
        "preparation": (
            Preparation.parse(statement.preparation),
            Preparation.parse(load(row.preparation)),
        ),
        "price_cents": (statement.price_cents, row.price_cents),
        "fee_ppm": (statement.fee_ppm, context.settings.fee_ppm),
    }
    for name, (signed, negotiated) in pairs.items():
        if signed != negotiated:
            raise InvalidError(
                f"the agreement's {name} is not the one negotiated last", code="not_negotiated"
            )


def _in_force(session: Session, offer: Offer) -> None:
    asset = session.get_one(Asset, offer.asset_id)
    if offer.revoked is not None or asset.revoked is not None:
        raise ConflictError("the offer or its asset was withdrawn", code="revoked")
