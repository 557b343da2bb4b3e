"""What each job of a scenario took: time, peak memory, and the memory that stayed afterwards."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from shared_model.evaluation.table_file import write_text

FILE = "usage.csv"


@dataclass(frozen=True)
class Usage:
    """One job.

    Attributes:
        job: name of its record.
        process: which process did it; jobs of one process follow one another.
        seconds, cpu_seconds: of the wall clock and of all its threads.
        peak_mb: largest resident memory while it ran; None where the system does not tell.
        after_mb: resident memory when it was done and everything was given back.
    """

    job: str
    process: int
    seconds: float
    cpu_seconds: float
    peak_mb: float | None
    after_mb: float | None


class Measuring:
    """Starts to measure a job of this process; ``done`` says what it took."""

    def __init__(self) -> None:
        self._start, self._cpu = time.monotonic(), time.process_time()
        # 5 resets the peak of this process (proc_pid_clear_refs): each job has a peak of its own.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def done(self, job: str) -> Usage:
        """What it took, once its memory has been given back."""
        memory = resident_mb()
        return Usage(
            job,
            os.getpid(),
            round(time.monotonic() - self._start, 1),
            round(time.process_time() - self._cpu, 1),
            memory.get("VmHWM"),
            memory.get("VmRSS"),
        )


def resident_mb() -> dict[str, float]:
    """``VmHWM`` (peak) and ``VmRSS`` (now) of this process in MB; empty where unknown."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split() for line in lines if line.startswith(("VmHWM:", "VmRSS:")))
    return {words[0].rstrip(":"): round(int(words[1]) / 1000, 1) for words in pairs}


def write_usage(rows: Sequence[Usage], out: Path) -> None:
    """Write ``usage.csv`` of this call's jobs, in the order in which they ended."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([each.name for each in fields(Usage)])
    writer.writerows([["" if v is None else v for v in astuple(row)] for row in rows])
    write_text(out / FILE, buffer.getvalue())


def told(rows: Sequence[Usage]) -> str:
    """One sentence about time and memory; empty where nothing was done or measured."""
    peaks = [row.peak_mb for row in rows if row.peak_mb is not None]
    if not peaks:
        return ""
    text = f"{len(rows)} jobs took {sum(row.cpu_seconds for row in rows) / 60:.1f} min of processor"
    text += f" time; largest peak of one {max(peaks):.0f} MB"
    first_last = grown(rows)
    if first_last is not None:
        text += ", left in memory after the first {:.0f} MB, after the last {:.0f} MB".format(
            *first_last
        )
    return text


def grown(rows: Sequence[Usage]) -> tuple[float, float] | None:
    """Memory left after the first and after the last job, in the process that did most."""
    by_process: dict[int, list[float]] = {}
    for row in rows:
        if row.after_mb is not None:
            by_process.setdefault(row.process, []).append(row.after_mb)
    most = max(by_process.values(), key=len, default=[])
    return (most[0], most[-1]) if len(most) > 1 else None
