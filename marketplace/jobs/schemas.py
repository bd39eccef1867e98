"""Shapes of jobs, results and what nodes are asked to grant."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class TaskView(BaseModel):
    """A computation that this service can run."""

    name: str
    version: int
    summary: str
    encrypted: bool


class Submitted(BaseModel):
    """A job that the log covers."""

    job: str
    index: int
    state: str


class InputView(BaseModel):
    """What was handed in for a job to come; the job names its digest."""

    digest: str
    size: int


class PartyView(BaseModel):
    """How far one party of a job is."""

    asset: str
    provider: str
    provider_name: str
    state: str
    reason: str | None
    grant: str | None
    receipt: str | None


class ErrorView(BaseModel):
    """Why a job ended without a result."""

    reason: str
    message: str


class JobView(BaseModel):
    """A job as researcher, providers and overseers see it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "job": "job:0f0f…",
                "name": "risk model",
                "task": "logistic",
                "state": "running",
                "purpose": "research",
                "researcher": "participant:0f0f…",
                "progress": {
                    "round": 2,
                    "done": 1,
                    "of": 2,
                    "step": "newton",
                    "nodes": {"asset:0f0f…": "answered", "asset:1e1e…": "waiting"},
                },
                "parties": [],
                "error": None,
                "release": None,
                "created": 1767225600000,
                "finished": None,
            }
        }
    )

    job: str
    name: str
    task: str
    state: str
    purpose: str
    researcher: str
    progress: dict[str, Any]
    parties: list[PartyView]
    error: ErrorView | None
    release: str | None
    created: int
    finished: int | None


class OpeningView(BaseModel):
    """The secrets that took the masks off one round's sum: seeds and mask keys by asset, base64."""

    round: int
    secrets: dict[str, Any]


class ContributionView(BaseModel):
    """One node's masked or encrypted reply, with the request it answers; base64."""

    asset: str
    round: int
    request: str
    reply: str


class RequestView(BaseModel):
    """A job that waits for the caller's grant or refusal."""

    job: str
    index: int
    asset: str


class UseView(BaseModel):
    """Who used an asset, for which purpose, when, and how it ended."""

    job: str
    name: str
    researcher: str
    researcher_name: str
    task: str
    purpose: str
    state: str
    reason: str | None
    receipt: str | None
    created: int
    finished: int | None
