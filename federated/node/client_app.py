"""The node's Flower `ClientApp`: unpack a message, ask the node, pack its answer. Nothing else.

Decides nothing: what to answer is the node's business (`NodeService`). It guards one thing, that
the text of an exception, which may hold data, never becomes part of a reply.

    app = make_client_app(node)     # for an InProcessGrid, or for a SuperNode
"""

from __future__ import annotations

from typing import Final, Protocol

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from federated.messages import ALONE, Beside, Failure
from federated.records import ACTION, beside_of, pack, unpack

INTERNAL: Final = "internal"
"""The one word for whatever broke inside a node; the node's own log says more."""


class NodeService(Protocol):
    """A node, as its ClientApp sees it."""

    def handle(self, body: bytes, beside: Beside = ALONE) -> bytes:
        """Answer one request of `federated.messages`, and what came with it, with one reply."""


def make_client_app(node: NodeService) -> ClientApp:
    """Return the Flower app that puts questions to `node`.

    Args:
        node: called with one request at a time, on a thread of the Grid or the SuperNode.
    """
    app = ClientApp()

    @app.query(ACTION)
    def answer(message: Message, context: Context) -> Message:
        del context  # Flower's state would outlive the job; the node keeps its own journal.
        try:
            reply = node.handle(unpack(message), beside_of(message))
        except Exception:  # noqa: BLE001 - whatever it is, its text must stay here
            reply = Failure(job="", asset="", reason=INTERNAL).to_bytes()
        return Message(pack(reply), reply_to=message)

    return app


def seat(node: NodeService, node_id: int) -> tuple[ClientApp, Context]:
    """Return a node's app and its Flower context, as `federated.grid.InProcessGrid` takes them.

    Args:
        node: the node.
        node_id: Flower's number for it, from 2 up; 1 is the server's.
    """
    context = Context(run_id=1, node_id=node_id, node_config={}, state=RecordDict(), run_config={})
    return make_client_app(node), context
