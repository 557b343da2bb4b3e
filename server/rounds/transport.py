"""What the round driver needs of a transport, so that it runs over Flower and in-process alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shared_model.protocol.sealed import Sealed


@dataclass(frozen=True)
class Failure:
    """A site that will not answer this message: why, in the words of the transport."""

    reason: str


class Transport(Protocol):
    """Carries sealed messages between the coordinator and the sites."""

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        """Send a message to a site and return a handle for its reply; never blocks on the site.

        Raises SMR-E501 when the site is not connected now; the driver may try again later.
        """
        ...

    def poll(self, handle: str) -> Sealed | Failure | None:
        """The reply if it is there, a failure if it will never come, ``None`` while it may come."""
        ...
