"""The courier's view of the agent: sealed bytes in, sealed bytes out, over the unix socket.

Imports neither torch nor pydantic: Flower starts a courier process for every message.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import grpc

from client.agent import agent_pb2, agent_pb2_grpc
from client.agent.refusals import inward
from client.agent.status import AgentStatus
from client.agent.wire import MAX_MESSAGE_BYTES, from_chunks, to_chunks
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed


class AgentClient:
    """A connection to the agent behind ``socket``; close it, or use it in a ``with`` statement."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket.absolute()
        self._channel = grpc.insecure_channel(
            f"unix:{self._socket}",
            options=[
                ("grpc.enable_http_proxy", 0),
                ("grpc.default_authority", "localhost"),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ],
        )
        self._stub = agent_pb2_grpc.AgentStub(self._channel)

    def handle(self, instruction: Sealed, timeout_s: float | None = None) -> Sealed:
        """Ask the agent; waits as long as training takes unless ``timeout_s`` seconds are given.

        Raises the agent's own numbered refusal, SMR-E412 when no agent answers, SMR-E413 when what
        came back is not a sealed message, SMR-E414 when the time was up or the call broke off.
        """
        try:
            return from_chunks(self._stub.Handle(to_chunks(instruction), timeout=timeout_s))
        except grpc.RpcError as error:
            raise self._explain(error) from None

    def status(self, timeout_s: float = 10.0) -> AgentStatus:
        """What the agent is doing; raises SMR-E412 or SMR-E414."""
        try:
            reply = self._stub.Status(agent_pb2.StatusRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._explain(error) from None
        return AgentStatus(
            site=reply.site,
            plan_name=reply.plan_name,
            plan_digest=reply.plan_digest,
            key_fingerprint=reply.key_fingerprint,
            activity=reply.activity,
            run_id=reply.run_id,
            round=reply.round,
            kind=reply.kind,
            started_at_s=reply.started_at_s,
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> AgentClient:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def _explain(self, error: grpc.RpcError) -> SmrfedError:
        status, details = error.code(), error.details() or ""
        if status == grpc.StatusCode.FAILED_PRECONDITION and (refusal := inward(details)):
            return refusal
        if status == grpc.StatusCode.UNAVAILABLE:
            return SmrfedError(
                "SMR-E412",
                f"no site agent answers on {self._socket}",
                expected="a running agent",
                found="no socket" if not self._socket.exists() else details[:200],
                remedy="start it with `smrfed-site run --config site.toml`",
            )
        return SmrfedError(
            "SMR-E414",
            "the call to the site agent did not end as it should",
            expected="a reply or a numbered refusal",
            found=f"{status.name}: {details}"[:300],
            remedy="read state_dir/agent.log; the same instruction can be sent again and costs "
            "nothing twice",
        )
