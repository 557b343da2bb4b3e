"""What a measurement ran on, and what the measuring process itself held in memory."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """The machine at one moment; ``load_average`` is that of the last minute, of all its users."""

    cores: int
    memory_gib: float
    load_average: float
    python: str
    torch: str
    flwr: str

    @classmethod
    def now(cls) -> Machine:
        """This machine, now."""
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            cores=os.cpu_count() or 1,
            memory_gib=round(pages / 2**30, 1),
            load_average=round(os.getloadavg()[0], 2),
            python=platform.python_version(),
            torch=version("torch"),
            flwr=version("flwr"),
        )

    def __str__(self) -> str:
        return (
            f"{self.cores} cores, {self.memory_gib:g} GiB, load average {self.load_average:g}; "
            f"Python {self.python}, torch {self.torch}, flwr {self.flwr}"
        )


def high_water_mb() -> float:
    """Peak resident memory of this process (VmHWM of /proc, Linux), in MB."""
    return _status_mb("VmHWM")


def reset_high_water() -> None:
    """Let the peak start anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"this kernel reports no {field}")
