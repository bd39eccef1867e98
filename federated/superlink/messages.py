"""A Flower message as it crosses a SuperLink: a head without content, and an object beside it.

Flower sends message, records and record as three objects named by their SHA-256, each with a
request of its own at either end. With head and record at hand the other two can only be what their
names say, so here the record alone travels. Both sides of a SuperLink do so; this is how.

    part = split(message)                # push part.head with part.tree, then the record
    message = join(head, tree, record)   # what was not sent is worked out, and must fit its name
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_object_tree, no_object_id_recompute

from federated.errors import SuperLinkError
from federated.records import RECORD

_NESTED: Final = 2
"""Below a message its records, below these the record."""


@dataclass(frozen=True)
class Split:
    """A message in parts.

    Attributes:
        head: the message without its content.
        tree: names of all objects, as Flower nests them.
        name: of the record.
        record: its bytes.
    """

    head: MessageProto
    tree: ObjectTree
    name: str
    record: bytes


def split(message: Message) -> Split:
    """Take a message with content apart; it gets the id under which a reply will name it."""
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        record = message.content[RECORD]
        return Split(
            head=message_to_proto(remove_content_from_message(message)),
            tree=get_object_tree(message),
            name=record.object_id,
            record=record.deflate(),
        )


def record_of(tree: ObjectTree) -> str | None:
    """Return the name of a message's record; None for one without content, which is an error.

    Raises:
        SuperLinkError: a message of another shape.
    """
    found, names = tree, []
    while found.children:
        if len(found.children) != 1:
            raise SuperLinkError("the SuperLink handed over a message with more than one record")
        found = found.children[0]
        names.append(found.object_id)
    if names and len(names) != _NESTED:
        raise SuperLinkError("the SuperLink handed over a message that is nested otherwise")
    return names[-1] if names else None


def join(head: MessageProto, tree: ObjectTree, record: bytes | None) -> Message:
    """Put a message together.

    Args:
        head: as it came.
        tree: as it came with the head.
        record: what the name of `record_of(tree)` stands for; None where there is none.

    Raises:
        SuperLinkError: head and record are not what the names of the message say.
    """
    try:
        message = message_from_proto(head)
        if record is None:
            return message
        content = RecordDict({RECORD: ConfigRecord.inflate(record)})
        message = make_message(message.metadata, content=content)
        found = get_object_tree(message)
    except Exception as error:
        # Flower raises a dozen kinds here, on bytes that somebody else chose.
        raise SuperLinkError("the SuperLink handed over what makes no message") from error
    if found != tree:
        raise SuperLinkError("the SuperLink handed over another message than it named")
    return message


def pull(
    ask: Callable[[PullObjectRequest], PullObjectResponse],
    node: Node,
    run_id: int,
    name: str,
) -> bytes | None:
    """Return an object's content; None while its sender has not pushed it yet.

    Raises:
        SuperLinkError: there is no such object, or no longer.
    """
    answer = ask(PullObjectRequest(node=node, run_id=run_id, object_id=name))
    if not answer.object_found:
        raise SuperLinkError("the SuperLink no longer holds an object of a message")
    return answer.object_content if answer.object_available else None


def is_passing(error: httpx.HTTPError) -> bool:
    """Whether an error may be gone in a moment: the SuperLink restarts, or the line is down.

    Or its database is locked, as while it clears a large run away: after five seconds of waiting
    Flower gives up and answers 500, and has stored nothing.
    """
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (500, 502, 503, 504)
    return True
