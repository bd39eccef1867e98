"""The tasks that this code can compute, by name."""

from federated.errors import TaskError, suggestion
from federated.tasks.auction import Auction
from federated.tasks.encrypted_sum import EncryptedSum
from federated.tasks.intersection import IntersectionTask
from federated.tasks.joint import JointTask
from federated.tasks.linkage import Linkage
from federated.tasks.logistic import Logistic
from federated.tasks.order_statistic import OrderStatistic
from federated.tasks.question import Task
from federated.tasks.scoring import ScoringTask
from federated.tasks.statistics import Statistics
from federated.tasks.vertical import Vertical

AnyTask = Task | JointTask


def known_tasks() -> dict[str, AnyTask]:
    """Returns a new mapping of name to task."""
    tasks: tuple[AnyTask, ...] = (
        Statistics(),
        Logistic(),
        EncryptedSum(),
        IntersectionTask(),
        Linkage(),
        Vertical(),
        ScoringTask(),
        OrderStatistic(),
        Auction(),
    )
    return {task.name: task for task in tasks}


def find_task(name: str, version: int | None = None) -> AnyTask:
    """Returns a task by name, and by version if one is given.

    Raises:
        TaskError: unknown_task, listing the known names with the nearest.
    """
    tasks = known_tasks()
    if name not in tasks:
        raise TaskError("unknown_task", f"there is no task {name!r}{suggestion(name, tasks)}")
    if version is not None and tasks[name].version != version:
        raise TaskError(
            "unknown_task",
            f"task {name} has version {tasks[name].version} here, not {version}; "
            "both sides must run the same code",
        )
    return tasks[name]
