"""The agent's gRPC service on a unix socket: the only door of the process that sees patients."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, Protocol

import grpc

from client.agent import agent_pb2, agent_pb2_grpc
from client.agent.refusals import outward, site_failed
from client.agent.socket_path import claim_socket, owner_only, share_socket
from client.agent.status import AgentStatus
from client.agent.wire import MAX_MESSAGE_BYTES, broken_off, from_chunks, to_chunks
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

_log = logging.getLogger(__name__)

# One call trains; the others are repetitions that wait for it, and questions after the status.
_MAX_CALLS = 8


class Handler(Protocol):
    """What the service needs of an agent."""

    @property
    def max_body_bytes(self) -> int:
        """Largest body, in bytes, that an instruction of the plan can have."""

    def handle(self, instruction: Sealed) -> Sealed:
        """Answer an instruction."""

    def refused(self, error: SmrfedError) -> None:
        """Note that something was refused before it was an instruction."""

    def status(self) -> AgentStatus:
        """What the agent is doing."""


class Service:
    """A running service; ``stop`` ends it and removes the socket."""

    def __init__(self, server: Any, socket: Path) -> None:
        self._server = server
        self._socket = socket

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the service ends; true when ``timeout_s`` passed before."""
        return bool(self._server.wait_for_termination(timeout_s))

    def stop(self, grace_s: float = 5.0) -> None:
        """Refuse new calls, give running ones ``grace_s`` seconds, and remove the socket."""
        self._server.stop(grace_s).wait()
        self._socket.unlink(missing_ok=True)


def serve(
    agent: Handler,
    socket: Path,
    pace_s: float = 0.0,
    receive_s: float = 120.0,
    group: str | None = None,
) -> Service:
    """Start answering on ``socket`` (mode 0600, folder 0700); raises SMR-E411.

    With a ``group``, its members may use the socket as well (SMR-E474 where that cannot be).

    What the agent says, reply or refusal, leaves a multiple of ``pace_s`` seconds after the
    instruction came, so that the time of an answer tells less about who was trained on. A call
    whose instruction is not there after ``receive_s`` seconds is ended: it would hold a place.
    """
    socket = socket.absolute()
    claim_socket(socket)
    server = grpc.server(
        ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="agent"),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ],
        maximum_concurrent_rpcs=_MAX_CALLS,
    )
    agent_pb2_grpc.add_AgentServicer_to_server(_Servicer(agent, pace_s, receive_s), server)
    with owner_only():
        server.add_insecure_port(f"unix:{socket}")
        server.start()
    service = Service(server, socket)
    if group is not None:
        try:
            share_socket(socket, group)
        except SmrfedError:
            service.stop(0.0)
            raise
    return service


class _Servicer(agent_pb2_grpc.AgentServicer):  # type: ignore[misc]
    """Translates between chunks and the agent; what goes wrong leaves as a number."""

    def __init__(self, agent: Handler, pace_s: float, receive_s: float) -> None:
        self._agent = agent
        self._pace_s = pace_s
        self._receive_s = receive_s

    def Handle(  # noqa: N802 (gRPC names it)
        self, request_iterator: Iterator[agent_pb2.Chunk], context: Any
    ) -> Iterator[agent_pb2.Chunk]:
        too_slow = threading.Timer(self._receive_s, context.cancel)
        too_slow.daemon = True
        too_slow.start()
        try:
            instruction = from_chunks(request_iterator, self._agent.max_body_bytes)
        except SmrfedError as error:
            self._agent.refused(error)
            _refuse(context, error)
        except grpc.RpcError:
            # What came is no message of ours, or the courier went away: there is nobody to tell.
            self._agent.refused(broken_off())
            raise
        finally:
            too_slow.cancel()
        try:
            reply = self._paced(instruction)
        except SmrfedError as error:
            _refuse(context, error)
        except Exception as error:
            _refuse(context, site_failed(error))
        yield from to_chunks(reply)

    def _paced(self, instruction: Sealed) -> Sealed:
        start = time.monotonic()
        try:
            return self._agent.handle(instruction)
        finally:
            if self._pace_s:
                elapsed = time.monotonic() - start
                time.sleep(math.ceil(elapsed / self._pace_s) * self._pace_s - elapsed)

    def Status(self, request: agent_pb2.StatusRequest, context: Any) -> agent_pb2.StatusReply:  # noqa: N802
        status = self._agent.status()
        return agent_pb2.StatusReply(
            site=status.site,
            plan_name=status.plan_name,
            plan_digest=status.plan_digest,
            key_fingerprint=status.key_fingerprint,
            activity=status.activity,
            run_id=status.run_id,
            round=status.round,
            kind=status.kind,
            started_at_s=status.started_at_s,
        )


def _refuse(context: Any, error: SmrfedError) -> NoReturn:
    # A flood of strangers' messages must not push everything else out of the log.
    _log.error("instruction refused: %s", error, exc_info=error if error.__cause__ else None)
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, outward(error))
    raise AssertionError("abort raises")
