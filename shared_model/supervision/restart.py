"""When a process that ended is started again: back-off with a cap, afresh after a steady time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RestartPolicy:
    """How patiently a process is started again.

    Args:
        first_s: seconds before the first restart.
        factor: each further failure in a row waits so many times longer.
        cap_s: longest wait, in seconds.
        steady_s: a process that ran so long is well; what follows counts from the beginning.
        give_up_after: failures in a row after which it has ended for good; ``None``: never.
    """

    first_s: float = 2.0
    factor: float = 2.0
    cap_s: float = 120.0
    steady_s: float = 60.0
    give_up_after: int | None = 8

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after the ``failures``-th failure in a row (1, 2, ...)."""
        # Bounded in the exponent too: a process may fail for weeks.
        return min(self.first_s * self.factor ** min(failures - 1, 64), self.cap_s)

    def hopeless(self, failures: int) -> bool:
        """Whether so many failures in a row mean that it will not work."""
        return self.give_up_after is not None and failures >= self.give_up_after


#: A SuperLink takes a SuperNode that was killed for online for up to a minute and refuses it until
#: then; one that is back within three seconds would leave its message undelivered. A node that is
#: refused for good (its key was revoked) keeps asking, once a minute.
SUPERNODE = RestartPolicy(first_s=5.0, factor=1.5, cap_s=60.0, give_up_after=None)
