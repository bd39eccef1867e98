"""How one message body travels in a Flower `Message`: one `ConfigRecord` of `bytes` values.

One bytes record crosses a SuperLink a third faster than arrays do, and a receipt can list the
digest of exactly these bytes, whatever carried them.

    content = pack(body)
    body = unpack(message)

Beside the body, and no part of it, a coordinator sends its lease, and it may send the log's newest
signed checkpoint. A node verifies that as it does one that it asks for, and need not ask.

    content = pack(body, checkpoint, lease)
    beside = beside_of(message)         # with Flower's number for the run
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
from federated.messages import Beside

ACTION: Final = "rongshu"
MESSAGE_TYPE: Final = f"query.{ACTION}"
"""The Flower category and action that `federated.node.client_app` answers."""

RECORD: Final = "rongshu"
FIELD: Final = "body"
CHECKPOINT: Final = "checkpoint"
LEASE: Final = "lease"


def pack(body: bytes, checkpoint: bytes | None = None, lease: bytes | None = None) -> RecordDict:
    """Wrap a body as all that a Flower message holds.

    Args:
        body: the request or reply.
        checkpoint: the log's newest, signed; with requests alone.
        lease: the coordinator's, signed; with requests alone.
    """
    fields = {FIELD: body, CHECKPOINT: checkpoint, LEASE: lease}
    record = {name: value for name, value in fields.items() if value is not None}
    return RecordDict({RECORD: ConfigRecord(dict(record))})


def unpack(message: Message) -> bytes:
    """Take the body out of a Flower message.

    Raises:
        MessageError: the message is an error, or carries anything but what `pack` writes.
    """
    return _fields(message)[FIELD]


def beside_of(message: Message) -> Beside:
    """Take out of a Flower message what came with its body.

    Raises:
        MessageError: as `unpack`.
    """
    fields = _fields(message)
    return Beside(fields.get(CHECKPOINT), fields.get(LEASE), message.metadata.run_id)


def _fields(message: Message) -> dict[str, bytes]:
    if not message.has_content():
        raise MessageError("the Flower message carries an error, not a body")
    content = message.content
    record = content.get(RECORD)
    if set(content) != {RECORD} or not isinstance(record, ConfigRecord):
        raise MessageError(f"a Flower message carries one record {RECORD!r}")
    if not {FIELD} <= set(record) <= {FIELD, CHECKPOINT, LEASE}:
        raise MessageError(f"the record {RECORD!r} has a {FIELD!r}, and {CHECKPOINT!r}, {LEASE!r}")
    found = {name: value for name, value in record.items() if isinstance(value, bytes)}
    if set(found) != set(record):
        raise MessageError(f"what the record {RECORD!r} has is bytes")
    return found


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
