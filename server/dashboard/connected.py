"""Which sites are connected now: the SuperLink is asked beside the page, which never waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from shared_model.local_page.renewed import Renewed

_EVERY_S = 10.0
_PATIENCE_S = 5.0
_SILENT = "the SuperLink does not answer"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Connected:
    """Sites with an online SuperNode; ``sites`` None where the SuperLink does not say."""

    sites: frozenset[str] | None
    at: datetime
    why: str = ""


class ConnectionWatch:
    """Asks every ten seconds while somebody looks; an answer that takes too long is unknown.

    Args:
        ask: returns the names of the connected sites, or raises.
    """

    def __init__(
        self, ask: Callable[[], frozenset[str]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._renewed = Renewed(self._look, _EVERY_S, clock=clock)

    def now(self) -> Connected:
        """What is known at this moment."""
        known = self._renewed.now()
        if self._renewed.slow_s > _PATIENCE_S:
            return Connected(None, datetime.now(UTC), _SILENT)
        return known or Connected(None, datetime.now(UTC), "not asked yet")

    def _look(self) -> Connected:
        try:
            return Connected(self._ask(), datetime.now(UTC))
        except Exception as error:
            _log.debug("the SuperLink did not answer: %s", error)
            return Connected(None, datetime.now(UTC), _SILENT)
