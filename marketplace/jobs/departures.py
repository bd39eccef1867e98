"""Who was gone in which exchange of a job, kept for whoever takes the job over.

A coordinator is made of what nodes answered and of who did not. The nodes keep their answers; this
keeps the rest. So a service that was killed comes, after its restart, to the same requests again.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlmodel import Session, select

from marketplace.jobs.tables import JobDeparture

Place = tuple[int, int, str]
"""Attempt, round and step of an exchange."""


def keep(session: Session, job_id: str, place: Place, gone: Mapping[str, str]) -> None:
    """Remember who was gone in an exchange, by asset, and the word for it."""
    attempt, number, step = place
    for asset, word in gone.items():
        session.merge(
            JobDeparture(
                job_id=job_id,
                attempt=attempt,
                round=number,
                step=step,
                asset_id=asset,
                word=word,
            )
        )


def departed(session: Session, job_id: str) -> dict[Place, dict[str, str]]:
    """Return everybody who was gone, by exchange."""
    found: dict[Place, dict[str, str]] = {}
    for row in session.exec(select(JobDeparture).where(JobDeparture.job_id == job_id)).all():
        found.setdefault((row.attempt, row.round, row.step), {})[row.asset_id] = row.word
    return found
