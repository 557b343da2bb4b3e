"""The round driver's transport over Flower: push one message per site, pull one reply at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from server.flower.envelope import pack, unpack
from server.rounds.transport import Failure, RunOverError
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

_LOOK_AROUND_S = 2.0

# Flower shows a reply when its upload begins, and then waits for every chunk of it. Longer than
# this nobody waits: a site that dies while it sends would hold up all the others.
_PULL_S = 20.0

# Flower answers for a site whose message has expired; at the very deadline that answer would make a
# silent site look like one that failed, and the next round would wait for it again.
_SPARE_S = 5.0


@dataclass(frozen=True)
class ConnectedNode:
    """An online SuperNode; ``activated_at`` changes when it reconnects."""

    id: int
    activated_at: str


@dataclass(frozen=True)
class _Pending:
    site: str
    node: ConnectedNode


@dataclass
class _Pull:
    """A pull that goes on in a thread of its own, and what came of it."""

    done: threading.Event = field(default_factory=threading.Event)
    replies: list[Message] = field(default_factory=list)
    error: Exception | None = None
    slow: bool = False


class FlowerTransport:
    """Carries sealed messages through a SuperLink to the SuperNode that bears the site's name.

    A site is found by the name under which the coordinator registered its node key
    (``flwr supernode register KEY --name SITE``); that the reply comes from that site is proved by
    its signature, not by Flower. One reply is in memory at a time, whatever the number of sites,
    unless its upload takes long: then others are looked for meanwhile.

    Flower delivers a message once: a SuperNode that restarts while it holds one would leave the
    round waiting for its deadline. So a site that came back after a push counts as failed, and the
    driver sends the instruction again; the agent answers it once.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._pending: dict[str, _Pending] = {}
        self._pulls: dict[str, _Pull] = {}
        self._nodes: dict[str, ConnectedNode] = {}
        self._looked_at = -_LOOK_AROUND_S

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        """Send to the site's SuperNode; the handle is Flower's message id.

        Raises SMR-E501 when no online SuperNode bears the site's name, or the SuperLink refuses.
        """
        node = self._connected().get(site) or self._connected(refresh=True).get(site)
        if node is None:
            raise _not_connected(site, f"online SuperNodes: {sorted(self._nodes) or 'none'}")
        flower_message = Message(
            pack(message), node.id, MessageType.QUERY, ttl=time_to_live_s + _SPARE_S
        )
        with _while_the_run_lasts():
            (handle,) = self._grid.push_messages([flower_message])
        if not handle:
            raise _not_connected(site, "the SuperLink refused the message")
        self._pending[handle] = _Pending(site, node)
        return str(handle)

    def poll(self, handle: str) -> Sealed | Failure | None:
        """The reply, why there will be none, or ``None`` while it may come."""
        pending = self._pending[handle]
        pull = self._pulls.pop(handle, None) or self._pull(handle)
        if not pull.done.wait(0 if pull.slow else _PULL_S):
            pull.slow = True
            self._pulls[handle] = pull
            return None
        if pull.error is not None:
            raise pull.error
        if pull.replies:
            del self._pending[handle]
            return _read(pull.replies.pop(), pending.site)
        node = self._connected().get(pending.site)
        if node is not None and node != pending.node:
            del self._pending[handle]
            return Failure(f"site {pending.site!r} reconnected before it answered")
        return None

    def find_nodes(self) -> dict[str, ConnectedNode]:
        """Online SuperNodes by site name; of two with one name, the one that came last."""
        with _while_the_run_lasts():
            infos = sorted(self._grid.get_nodes(), key=lambda info: info.last_activated_at)
        return {info.name: ConnectedNode(info.node_id, info.last_activated_at) for info in infos}

    def _pull(self, handle: str) -> _Pull:
        pull = _Pull()

        def ask() -> None:
            try:
                with _while_the_run_lasts():
                    pull.replies = list(self._grid.pull_messages([handle]))
            except Exception as error:
                pull.error = error
            pull.done.set()

        # A daemon: one that hangs must not keep the process from its end.
        threading.Thread(target=ask, name="pull", daemon=True).start()
        return pull

    def _connected(self, *, refresh: bool = False) -> dict[str, ConnectedNode]:
        now = time.monotonic()
        if refresh or now - self._looked_at > _LOOK_AROUND_S:
            self._looked_at = now
            self._nodes = self.find_nodes()
        return self._nodes


@contextmanager
def _while_the_run_lasts() -> Iterator[None]:
    """Turns the SuperLink's refusal of this process into the end of the run: SMR-E536.

    A SuperLink that was away for long has given the run up and knows its token no more. Whoever
    went on trying would hold the run directory and keep the next start from it.
    """
    try:
        yield
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise RunOverError(
            "SMR-E536",
            "the SuperLink takes this Flower run for finished",
            expected="a run whose process it knows",
            found=f"{error.response.status_code} {error.response.text[:200]}",
            remedy="nothing to do where a watchdog runs: it starts the run again, after the last "
            "saved round",
        ) from None


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
