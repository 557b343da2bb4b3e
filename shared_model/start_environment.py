"""Settings that the C library and OpenMP read when a program starts, in one place."""

from __future__ import annotations

#: glibc gives every large activation back to the system, and the next step faults its pages in
#: again: docs/performance.md has what these settings gain and cost.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


def start_environment(threads: int) -> dict[str, str]:
    """Environment variables that every training program starts with, for so many threads.

    What the user has set already is kept by the callers. Waiting threads sleep, so that several
    programs on one machine do not take each other's cores.
    """
    return {**ALLOCATOR, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
