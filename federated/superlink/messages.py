"""A Flower message as it crosses a SuperLink: a head without content, and objects beside it.

Flower sends the records of a message as objects of their own, named by their SHA-256, so that equal
ones travel once. Both sides of a SuperLink split and join them in the same way; this is that way.

    tree, objects = split(message)       # push the head with the tree, then the objects asked for
    message = join(message_id, contents)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from federated.errors import SuperLinkError


@dataclass(frozen=True)
class Split:
    """A message in parts.

    Attributes:
        head: the message without its content.
        tree: names of all objects, as Flower nests them.
        objects: contents by name.
    """

    head: MessageProto
    tree: ObjectTree
    objects: Mapping[str, bytes]


def split(message: Message) -> Split:
    """Take a message apart; it gets the id under which a reply will name it."""
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        head = remove_content_from_message(message) if message.has_content() else message
        return Split(
            head=message_to_proto(head),
            tree=get_object_tree(message),
            objects={
                name: each.deflate() for name, each in get_all_nested_objects(message).items()
            },
        )


def join(message_id: str, contents: dict[str, bytes]) -> Message:
    """Put a message together from its objects.

    Raises:
        SuperLinkError: an object is not what its name says, or they make no message.
    """
    try:
        message = inflate_object_from_contents(message_id, contents)
    except Exception as error:
        # Flower raises a dozen kinds here, on bytes that somebody else chose.
        raise SuperLinkError("the SuperLink handed over objects that make no message") from error
    if not isinstance(message, Message):
        raise SuperLinkError("the SuperLink handed over something that is no message")
    message.metadata.__dict__["_message_id"] = message_id
    return message


def names(tree: ObjectTree) -> list[str]:
    """Return the names of a message's objects."""
    return [each.object_id for each in iterate_object_tree(tree)]


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
    """Whether an error may be gone in a moment: the SuperLink restarts, or the line is down."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (502, 503, 504)
    return True
