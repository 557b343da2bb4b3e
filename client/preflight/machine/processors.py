"""Processors and memory: enough for the threads that site.toml names and for one scan at a time."""

from __future__ import annotations

import os
from pathlib import Path

from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note, NotLookedAt

#: Preparing a native scan takes about 3 GiB, training less.
_LEAST_BYTES = 3 << 30
_ENOUGH_BYTES = 6 << 30
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_processors(site: CheckedSite) -> str:
    """Compare ``threads`` with the processors that this process may use."""
    usable = len(os.sched_getaffinity(0))
    text = f"{usable} usable, threads = {site.config.threads}"
    if site.config.threads > usable:
        return Note(f"{text}: more threads than processors slow each other down")
    return text


def check_memory(meminfo: Path = Path("/proc/meminfo")) -> str:
    """Memory of the machine, or of the container; raises SMR-E440."""
    facts = _meminfo(meminfo)
    total = min([facts["MemTotal"], *_container_limits()])
    free = min(facts.get("MemAvailable", total), total)
    if total < _LEAST_BYTES:
        raise SmrfedError(
            "SMR-E440",
            "this machine has too little memory",
            expected=f"at least {_LEAST_BYTES >> 30} GiB, better {_ENOUGH_BYTES >> 30}",
            found=f"{total / 2**30:.1f} GiB",
            remedy="give the machine or the container more memory",
        )
    text = f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB available"
    if free < _LEAST_BYTES:
        return Note(f"{text}: preparing a scan takes {_LEAST_BYTES >> 30} GiB")
    return text


def _meminfo(path: Path) -> dict[str, int]:
    try:
        rows = [line.split() for line in path.read_text("ascii").splitlines()]
        facts = {row[0].rstrip(":"): int(row[1]) << 10 for row in rows}
        facts["MemTotal"]
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise NotLookedAt(f"{path} tells nothing: {error}") from None
    return facts


def _container_limits() -> list[int]:
    limits = []
    for path in map(Path, _LIMITS):
        try:
            limits.append(int(path.read_text("ascii")))
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
    return limits
