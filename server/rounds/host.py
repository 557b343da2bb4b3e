"""The coordinator's own machine before a round: room on its disk, and a clock that was not set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from server.checkpoints.run_directory import RunDirectory
from server.checkpoints.state import RunState
from shared_model.errors import SmrfedError

# A round writes its checkpoint before an older one goes, and receipts, events and releases beside.
_CHECKPOINTS = 2
_BESIDE = 32 << 20
# The masked sum, its successor, and those of earlier rounds, each of twice the parameters' bytes.
_SUMS = 8

# Clocks that are kept in step move by far less between two rounds; sites refuse beyond 300 s.
_JUMP_S = 30.0

# Between two signs of life while the driver only waits.
_BREATH_S = 60.0


def breathing(run_dir: RunDirectory, sleep: Callable[[float], None]) -> Callable[[float], None]:
    """``sleep`` that tells the watchdog that the driver is alive (:meth:`RunDirectory.alive`)."""

    def sleeps(seconds: float) -> None:
        while seconds > _BREATH_S:
            run_dir.alive()
            sleep(_BREATH_S)
            seconds -= _BREATH_S
        run_dir.alive()
        sleep(seconds)

    return sleeps


class RoundHost:
    """Looked at before sites are asked, so that nobody trains for a round that cannot be saved.

    Deadlines never depend on the time of day; that it jumped is told, because certificates, node
    authentication and the sites' opening hours do depend on it.

    Args:
        run_dir: folder on the file system that takes the checkpoints.
        clock: seconds, monotonic.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self, run_dir: Path, clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        self._run_dir = run_dir
        self._clock = clock
        self._wall_clock = wall_clock
        self._offset = wall_clock() - clock()

    def require_space(self, state: RunState, *, secure: bool = False) -> None:
        """Raise SMR-E523 when the disk cannot take the checkpoint of the next round.

        ``secure``: with the sums of 64-bit integers that a secure round keeps beside it.
        """
        one = len(state.body) + sum(map(len, state.optimiser.values()))
        needed = _CHECKPOINTS * one + _BESIDE + secure * _SUMS * len(state.body)
        try:
            free = shutil.disk_usage(self._run_dir).free
        except OSError:
            return  # whatever is wrong with the folder, writing there will tell
        if free < needed:
            raise SmrfedError(
                "SMR-E523",
                f"too little disk space for another round in {self._run_dir}",
                expected=f"{needed / 1e6:.0f} MB free",
                found=f"{free / 1e6:.0f} MB",
                remedy="free space, then resume; no site was asked for a round that could not be "
                "saved",
            )

    def clock_jump(self) -> str | None:
        """How far the time of day moved against the monotonic clock since the last call, if far."""
        offset = self._wall_clock() - self._clock()
        moved, self._offset = offset - self._offset, offset
        if abs(moved) < _JUMP_S:
            return None
        way = "forward" if moved > 0 else "back"
        return (
            f"the time of day jumped {abs(moved):.0f} s {way}; no deadline depends on it, but "
            "nodes whose clocks differ by more than 300 s are refused"
        )
