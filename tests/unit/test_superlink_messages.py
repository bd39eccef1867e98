"""A message that crosses a SuperLink in parts: what is not sent is worked out, and must fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_object_id

from federated.errors import SuperLinkError
from federated.messages import Beside
from federated.records import MESSAGE_TYPE, beside_of, new_message, pack, unpack
from federated.superlink.messages import join, record_of, split


def message(
    body: bytes = b"body", checkpoint: bytes | None = None, lease: bytes | None = None
) -> Message:
    return new_message(7, pack(body, checkpoint, lease), MESSAGE_TYPE, 2, "3")


@pytest.mark.parametrize("lease", [None, b"lease"])
@pytest.mark.parametrize("checkpoint", [None, b"note"])
@pytest.mark.parametrize("body", [b"\0", b"body", bytes(range(256)) * 4096])
def test_a_message_comes_out_as_it_went_in(
    body: bytes, checkpoint: bytes | None, lease: bytes | None
):
    part = split(message(body, checkpoint, lease))
    found = join(part.head, part.tree, part.record)
    assert (unpack(found), beside_of(found)) == (body, Beside(checkpoint, lease, 7))
    assert found.metadata.message_id == part.tree.object_id
    assert (found.metadata.run_id, found.metadata.dst_node_id) == (7, 2)


def test_only_the_record_travels_and_its_name_is_that_of_its_bytes():
    part = split(message())
    assert record_of(part.tree) == part.name == get_object_id(part.record)
    assert b"body" not in part.head.SerializeToString()


def test_equal_bodies_are_one_record():
    one, other = split(message()), split(new_message(7, pack(b"body"), MESSAGE_TYPE, 3, "3"))
    assert one.name == other.name
    assert one.tree.object_id != other.tree.object_id


def of_another_node(head: MessageProto) -> None:
    head.metadata.dst_node_id = 3


def of_another_run(head: MessageProto) -> None:
    head.metadata.run_id = 8


def of_another_round(head: MessageProto) -> None:
    head.metadata.group_id = "4"


@pytest.mark.parametrize("change", [of_another_node, of_another_run, of_another_round])
def test_a_head_that_is_not_what_the_message_was_named_after_is_refused(
    change: Callable[[MessageProto], None],
):
    part = split(message())
    change(part.head)
    with pytest.raises(SuperLinkError, match="another message than it named"):
        join(part.head, part.tree, part.record)


def test_a_record_that_is_not_the_one_named_is_refused():
    part, other = split(message()), split(message(b"other"))
    with pytest.raises(SuperLinkError, match="another message than it named"):
        join(part.head, part.tree, other.record)


@pytest.mark.parametrize("noise", [b"", b"noise", bytes(100)])
def test_what_is_no_record_is_refused(noise: bytes):
    part = split(message())
    with pytest.raises(SuperLinkError, match="makes no message"):
        join(part.head, part.tree, noise)


def test_a_message_of_another_shape_is_refused():
    leaf = ObjectTree(object_id="c" * 64)
    records = ObjectTree(object_id="b" * 64, children=[leaf, leaf])
    with pytest.raises(SuperLinkError, match="more than one record"):
        record_of(ObjectTree(object_id="a" * 64, children=[records]))
    with pytest.raises(SuperLinkError, match="nested otherwise"):
        record_of(ObjectTree(object_id="a" * 64, children=[leaf]))


def test_two_records_in_a_message_are_refused_by_whoever_gets_it():
    content = RecordDict({"rongshu": ConfigRecord({"body": b"a"}), "more": ConfigRecord()})
    part = split(new_message(7, content, MESSAGE_TYPE, 2, "3"))
    with pytest.raises(SuperLinkError, match="more than one record"):
        record_of(part.tree)


def test_an_error_has_no_record_and_comes_as_it_is():
    error = Message(Error(2, "gone"), reply_to=message())
    head, tree = message_to_proto(error), ObjectTree(object_id="a" * 64)
    assert record_of(tree) is None
    assert join(head, tree, None).error.code == 2
