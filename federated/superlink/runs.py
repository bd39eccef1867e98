"""The operator's side of a SuperLink: registers nodes, and begins a run for a job.

A run is Flower's word for one execution; here each attempt at a job has one. Flower wants an app
for it: the one handed in holds no code, nodes run what is installed at them, and the coordinator
claims the run for itself.

    runs = Runs(link.access)
    node_id = runs.register(public_key)
    with runs.begin() as grid:
        coordinator.run(grid, assignment, progress)
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from flwr.common.constant import Status, SubStatus
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import NodeStatus, TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor

from federated.errors import KeyRefusedError, SuperLinkError
from federated.superlink.bell import Bell, NoBell
from federated.superlink.process import Access
from federated.superlink.run_grid import Patience, RunGrid, runtime

_NEWEST: Final = 100
_log = logging.getLogger(__name__)


class Runs:
    """What the operator asks of its SuperLink.

    Args:
        access: where it is, and the secret that opens it.
        bell: see `Bell`.
    """

    def __init__(self, access: Access, bell: Bell | None = None) -> None:
        self._access = access
        self._bell = bell or NoBell()
        self._patiently = Patience()
        self._control = ControlHttpClient.from_server_address(
            access.address,
            insecure=False,
            root_certificates=access.ca,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="rongshu")],
        )

    def give_up(self) -> None:
        """Let no call that is waiting for the SuperLink wait any longer; on any thread."""
        self._patiently.give_up()

    def close(self) -> None:
        """Close the connections."""
        self._control.close()

    def register(self, public_key: bytes) -> int:
        """Let a node connect whose key this is; return Flower's number for it.

        Registered again, after a crash or a lost answer, a key keeps its number.

        Args:
            public_key: PEM of a P-384 key (`FleetKey.public`).

        Raises:
            KeyRefusedError: it is no such key, or one that was unregistered.
            SuperLinkError: the SuperLink does not answer.
        """
        request = RegisterNodeRequest(public_key=public_key)
        try:
            return int(self._patiently(lambda: self._control.RegisterNode(request)).node_id)
        except SuperLinkError as error:
            known = self.registered().get(public_key)
            if known is None:
                raise KeyRefusedError(str(error)) from error
            return known

    def unregister(self, node_id: int) -> None:
        """Let a node connect no more; its key is never let in again. Twice is as once."""
        if node_id in self.registered().values():
            request = UnregisterNodeRequest(node_id=node_id)
            self._patiently(lambda: self._control.UnregisterNode(request))

    def registered(self) -> dict[bytes, int]:
        """Return Flower's number for each key that may connect."""
        found = self._patiently(lambda: self._control.ListNodes(ListNodesRequest()))
        return {
            node.public_key: int(node.node_id)
            for node in found.nodes_info
            if node.status != NodeStatus.UNREGISTERED
        }

    def end_all(self) -> None:
        """End every run that is under way: whoever drove it is gone.

        Its messages go with it. Of one that was being pushed the rest would never come, and a node
        that had taken it would wait for that, in the way of the next run.

        Raises:
            SuperLinkError: the SuperLink does not answer.
        """
        for run_id in self._under_way():
            try:
                self._patiently(partial(self._control.StopRun, StopRunRequest(run_id=run_id)))
            except SuperLinkError as error:
                # Flower may have been faster: it ends a run that is silent.
                _log.warning("run %s was not ended: %s", run_id, error)

    def _under_way(self) -> Iterator[int]:
        """Return the newest runs that have not ended; older ones Flower ended, after a minute."""
        request = ListRunsRequest(limit=_NEWEST)
        runs = self._patiently(lambda: self._control.ListRuns(request)).run_dict
        return (run_id for run_id, run in runs.items() if run.status.status != Status.FINISHED)

    @contextmanager
    def begin(self) -> Iterator[RunGrid]:
        """Begin a run; it ends with the block, as completed or as failed.

        Raises:
            SuperLinkError: the SuperLink refuses.
        """
        request = StartRunRequest(fab=Fab(hash_str="", content=_empty_app()))
        self._patiently(lambda: self._control.StartRun(request))
        grid = RunGrid(self._access, self._claim(), self._bell, self._patiently)
        ended = SubStatus.FAILED
        try:
            yield grid
            ended = SubStatus.COMPLETED
        finally:
            grid.end(ended)

    def _claim(self) -> str:
        """Claim the oldest run that nobody has; a claim whose holder died comes back by itself."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        auth = SuperExecAuthHttpInterceptor(
            master_secret=self._access.secret,
            protected_methods=["/flwr.proto.Runtime/AcquireTask"],
        )
        with runtime(self._access, [auth]) as client:
            token: str = self._patiently(lambda: client.AcquireTask(request)).token
        if not token:
            raise SuperLinkError("the SuperLink gave no run")
        return token


def _empty_app() -> bytes:
    """Return the smallest app that Flower takes; it names functions that exist nowhere."""
    project = """\
[project]
name = "rongshu"
version = "1.0.0"
[tool.flwr.app]
publisher = "rongshu"
[tool.flwr.app.components]
serverapp = "nowhere:app"
clientapp = "nowhere:app"
[tool.flwr.app.config]
"""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        # A fixed time, so that each run has the same app.
        archive.writestr(zipfile.ZipInfo("pyproject.toml", (2026, 1, 1, 0, 0, 0)), project)
    return packed.getvalue()
