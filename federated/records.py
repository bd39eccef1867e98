"""How one message body travels in a Flower `Message`: one `ConfigRecord` holding one `bytes` value.

One bytes record crosses a SuperLink a third faster than arrays do, and a receipt can list the
digest of exactly these bytes, whatever carried them.

    content = pack(body)
    body = unpack(message)
"""

from __future__ import annotations

import time
from typing import Final

from flwr.app import DEFAULT_TTL, ConfigRecord, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import Metadata as MetadataProto

from federated.errors import MessageError

ACTION: Final = "rongshu"
MESSAGE_TYPE: Final = f"query.{ACTION}"
"""The Flower category and action that `federated.node.client_app` answers."""

RECORD: Final = "rongshu"
FIELD: Final = "body"


def pack(body: bytes) -> RecordDict:
    """Wrap a body as the whole content of a Flower message."""
    return RecordDict({RECORD: ConfigRecord({FIELD: body})})


def unpack(message: Message) -> bytes:
    """Take the body out of a Flower message.

    Raises:
        MessageError: the message is an error, or carries anything but one body.
    """
    if not message.has_content():
        raise MessageError("the Flower message carries an error, not a body")
    content = message.content
    record = content.get(RECORD)
    if set(content) != {RECORD} or not isinstance(record, ConfigRecord) or set(record) != {FIELD}:
        raise MessageError(f"a Flower message carries one record {RECORD!r} with one {FIELD!r}")
    body = record[FIELD]
    if not isinstance(body, bytes):
        raise MessageError(f"the {FIELD!r} of a Flower message is bytes")
    return body


def new_message(
    run_id: int,
    content: RecordDict,
    message_type: str,
    node_id: int,
    group_id: str,
    ttl: float | None = None,
) -> Message:
    """Make a message from the coordinator to a node; its content is a copy.

    Args:
        run_id: Flower's number for the run that it belongs to.
        content: the records to send.
        message_type: Flower's category and action, e.g. `query.rongshu`.
        node_id: the node to send it to.
        group_id: a label, here the round.
        ttl: seconds until the message is void; Flower's default where None.
    """
    # Not `Message(...)`: its constructor reads the run from a global of Flower's own processes.
    metadata = MetadataProto(
        run_id=run_id,
        src_node_id=SUPERLINK_NODE_ID,
        dst_node_id=node_id,
        group_id=group_id,
        created_at=time.time(),
        ttl=DEFAULT_TTL if ttl is None else ttl,
        message_type=message_type,
    )
    return message_from_proto(MessageProto(metadata=metadata, content=recorddict_to_proto(content)))
