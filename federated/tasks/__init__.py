"""Computations over a cohort: pure mathematics, without Flower and without I/O."""

from federated.plan import Aggregate, Field, Question
from federated.tasks.joint import JointTask
from federated.tasks.question import (
    PreparedRows,
    Task,
    decode_aggregate,
    encode_answer,
)
from federated.tasks.registry import AnyTask, find_task, known_tasks
from federated.tasks.replay import replay

__all__ = [
    "Aggregate",
    "AnyTask",
    "Field",
    "JointTask",
    "PreparedRows",
    "Question",
    "Task",
    "decode_aggregate",
    "encode_answer",
    "find_task",
    "known_tasks",
    "replay",
]
