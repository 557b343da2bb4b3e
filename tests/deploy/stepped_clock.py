"""A time of day that can be set for some processes of this machine, and for nobody else."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_suffix(".c")
_COMPILER = shutil.which("cc") or shutil.which("gcc")


class SteppedClock:
    """The clock of one party: what runs with :attr:`inside` before its command goes by it.

    The C library's time of day is moved (``LD_PRELOAD``); monotonic clocks and the times of files
    are the machine's. Skips the test where there is no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        if _COMPILER is None:
            pytest.skip("no C compiler here, to make a clock that can be set")
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._file = folder / "stepped_clock.so", folder / "clock"
        self.set_to(0.0)
        subprocess.run(
            [_COMPILER, "-shared", "-fPIC", "-O1", "-o", str(self._library),
             str(_SOURCE), "-ldl"],
            check=True,
        )  # fmt: skip

    @property
    def inside(self) -> list[str]:
        """Words before a command that is to go by this clock, its children too."""
        return ["/usr/bin/env", f"LD_PRELOAD={self._library}", f"SMRFED_STEPPED_CLOCK={self._file}"]

    def set_to(self, offset_s: float) -> None:
        """From now on, this many seconds ahead of the machine's clock; negative: behind."""
        # Written in place and at once: other processes have the file mapped.
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, struct.pack("=q", round(offset_s * 1e9)))
        finally:
            os.close(descriptor)
