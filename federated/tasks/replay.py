"""Running a task's server side over sums of contributions, wherever they come from.

The coordinator fetches each sum from the nodes; the buyer's client adds up the contributions that
the receipts name. Both call `replay`, so a result that differs means a sum that differs.

    result = replay(find_task("statistics"), plan, lambda question: total_words(question))
"""

from collections.abc import Callable
from typing import Any

from federated.errors import TaskError
from federated.plan import Plan, Question, Words
from federated.tasks.question import Conversation, Task, decode_aggregate


def replay(task: Task, plan: Plan, aggregate_of: Callable[[Question], Words]) -> dict[str, Any]:
    """Runs a task to its result.

    Args:
        task: The plan's task.
        plan: What to compute.
        aggregate_of: Returns, for a question, uint64[question.words]: the sum modulo 2^64 of every
            party's encoded answer. If it raises TaskError (nodes refused), the task may turn that
            into what it means for the whole computation.

    Returns:
        The task's result, plain JSON.

    Raises:
        TaskError: What the task refuses; out_of_bounds for a sum that cannot be one;
            layout_mismatch for a sum of another length; bad_parameter if it asks without end.
    """
    conversation = task.conduct(plan)
    try:
        question = next(conversation)
        for _ in range(task.most_questions):
            question = _advance(conversation, question, aggregate_of)
    except StopIteration as stop:
        return dict(stop.value)
    finally:
        conversation.close()
    raise TaskError("bad_parameter", f"task {task.name} asks more questions than it says")


def _advance(
    conversation: Conversation, question: Question, aggregate_of: Callable[[Question], Words]
) -> Question:
    """Answers one question and returns the next; a refusal is thrown into the task."""
    try:
        total = aggregate_of(question)
    except TaskError as refusal:
        return conversation.throw(refusal)
    return conversation.send(decode_aggregate(question.layout, total))
