"""A federation inside one process: the real agents and the real round driver, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

Handler = Callable[[Sealed], Sealed]


@dataclass(frozen=True)
class _Pending:
    site: str
    message: Sealed


class InProcessTransport:
    """Carries the driver's messages straight to agents; a site works when its reply is asked for.

    ``handlers`` maps a site name to its agent's ``handle``. One site trains at a time, so memory
    and threads stay those of one site; results do not depend on the order (sums are exact).
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._pending: dict[str, _Pending] = {}
        self._count = 0

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        """Accept a message for one site; raises SMR-E501 for a site without an agent."""
        if site not in self._handlers:
            raise SmrfedError(
                "SMR-E501",
                f"site {site!r} is not connected",
                expected=sorted(self._handlers),
                found=site,
                remedy="give the simulation an agent for every site of the plan",
            )
        self._count += 1
        handle = f"{site}-{self._count}"
        self._pending[handle] = _Pending(site, message)
        return handle

    def poll(self, handle: str) -> Sealed | Failure | None:
        """Let the site answer; an agent's numbered error becomes a failure with its text."""
        pending = self._pending.pop(handle)
        try:
            return self._handlers[pending.site](pending.message)
        except SmrfedError as error:
            return Failure(f"{error.code}: {error.what}", error.code)
