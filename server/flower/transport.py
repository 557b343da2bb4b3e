"""The round driver's transport over Flower: push one message per site, pull one reply at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from server.flower.envelope import pack, unpack
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

_LOOK_AROUND_S = 2.0


@dataclass(frozen=True)
class ConnectedNode:
    """An online SuperNode; ``activated_at`` changes when it reconnects."""

    id: int
    activated_at: str


@dataclass(frozen=True)
class _Pending:
    site: str
    node: ConnectedNode


class FlowerTransport:
    """Carries sealed messages through a SuperLink to the SuperNode that bears the site's name.

    A site is found by the name under which the coordinator registered its node key
    (``flwr supernode register KEY --name SITE``); that the reply comes from that site is proved by
    its signature, not by Flower. One reply is in memory at a time, whatever the number of sites.

    Flower delivers a message once: a SuperNode that restarts while it holds one would leave the
    round waiting for its deadline. So a site that came back after a push counts as failed, and the
    driver sends the instruction again; the agent answers it once.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._pending: dict[str, _Pending] = {}
        self._nodes: dict[str, ConnectedNode] = {}
        self._looked_at = -_LOOK_AROUND_S

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        """Send to the site's SuperNode; the handle is Flower's message id.

        Raises SMR-E501 when no online SuperNode bears the site's name, or the SuperLink refuses.
        """
        node = self._connected().get(site) or self._connected(refresh=True).get(site)
        if node is None:
            raise _not_connected(site, f"online SuperNodes: {sorted(self._nodes) or 'none'}")
        flower_message = Message(pack(message), node.id, MessageType.QUERY, ttl=time_to_live_s)
        (handle,) = self._grid.push_messages([flower_message])
        if not handle:
            raise _not_connected(site, "the SuperLink refused the message")
        self._pending[handle] = _Pending(site, node)
        return str(handle)

    def poll(self, handle: str) -> Sealed | Failure | None:
        """The reply, why there will be none, or ``None`` while it may come."""
        pending = self._pending[handle]
        replies = list(self._grid.pull_messages([handle]))
        if replies:
            del self._pending[handle]
            return _read(replies.pop(), pending.site)
        node = self._connected().get(pending.site)
        if node is not None and node != pending.node:
            del self._pending[handle]
            return Failure(f"site {pending.site!r} reconnected before it answered")
        return None

    def find_nodes(self) -> dict[str, ConnectedNode]:
        """Online SuperNodes by site name; of two with one name, the one that came last."""
        infos = sorted(self._grid.get_nodes(), key=lambda info: info.last_activated_at)
        return {info.name: ConnectedNode(info.node_id, info.last_activated_at) for info in infos}

    def _connected(self, *, refresh: bool = False) -> dict[str, ConnectedNode]:
        now = time.monotonic()
        if refresh or now - self._looked_at > _LOOK_AROUND_S:
            self._looked_at = now
            self._nodes = self.find_nodes()
        return self._nodes


def _read(reply: Message, site: str) -> Sealed | Failure:
    # An error that the SuperLink made up names the SuperLink as its source, so the site is the one
    # that the message was sent to.
    if reply.has_error():
        return Failure(f"site {site!r}: Flower error {reply.error.code}: {reply.error.reason}")
    result = unpack(reply.content)
    if isinstance(result, Failure):
        return Failure(f"site {site!r}: {result.reason}", result.code)
    return result


def _not_connected(site: str, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E501",
        f"site {site!r} is not connected",
        found=found,
        expected=f"an online SuperNode registered with --name {site}",
        remedy="ask the site to start its SuperNode, and compare its name in `flwr supernode ls`",
    )
