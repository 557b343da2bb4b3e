"""What the round driver needs of a transport, so that it runs over Flower and in-process alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

#: Numbers of a site that will answer the same instruction later: data may not leave at this hour,
#: or no more of it today.
LATER = ("SMR-E360", "SMR-E361")
_CODE = re.compile(r"SMR-E\d{3}")


@dataclass(frozen=True)
class Failure:
    """A site that will not answer this message: why, in the words of the transport.

    ``code`` is the number that the site itself gave, where it gave one.
    """

    reason: str
    code: str | None = None

    @property
    def later(self) -> bool:
        """Whether the site said that the same instruction will be answered later."""
        return self.code in LATER


def said(code: object, reason: str) -> Failure:
    """A failure with the number that a site gave, if what it gave is one."""
    known = isinstance(code, str) and _CODE.fullmatch(code)
    return Failure(reason, str(code) if known else None)


class RunOverError(SmrfedError):
    """The transport will carry nothing more for this driver: the one error that ends a run."""


class Transport(Protocol):
    """Carries sealed messages between the coordinator and the sites."""

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        """Send a message to a site and return a handle for its reply; never blocks on the site.

        Raises SMR-E501 when the site is not connected now; the driver may try again later. Here
        and in :meth:`poll`, :class:`RunOverError` ends the run.
        """
        ...

    def poll(self, handle: str) -> Sealed | Failure | None:
        """The reply if it is there, a failure if it will never come, ``None`` while it may come."""
        ...
