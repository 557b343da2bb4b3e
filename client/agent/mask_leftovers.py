"""Removes secrets of secure aggregation that no answer rests on any more.

A run that is never finalised says no goodbye. Its secrets go a day after the last of its questions
when another run asks, and after a week in any case, at the next start or question. Nothing is lost
where the run goes on after all: the site says SMR-E455, and the coordinator begins a new block of
rounds under new keys. At once would let two runs that take turns delete each other's keys.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from client.agent.durable import sync_folder

_DAY_S = 86400.0
#: Seconds without a question after which a run's secrets go.
KEPT_BESIDE_ANOTHER_S, KEPT_S = _DAY_S, 7 * _DAY_S


def remove_quiet_runs(masks: Path, asking: str | None = None) -> None:
    """Remove what quiet runs left below ``masks``; ``asking`` is the run whose question came."""
    if not masks.is_dir():
        return
    now_s = time.time()
    for run in masks.iterdir():
        another_asks = asking not in (None, run.name)
        limit_s = KEPT_BESIDE_ANOTHER_S if another_asks else KEPT_S
        if run.is_dir() and now_s - _last_written_s(run) > limit_s:
            remove_run(run)


def remove_run(run: Path) -> None:
    """Remove all blocks of a run, secrets first; on flash memory that is no proof of erasure."""
    for secret in run.glob("*/secret"):
        secret.unlink(missing_ok=True)
        sync_folder(secret.parent)
    shutil.rmtree(run)
    sync_folder(run.parent)


def _last_written_s(run: Path) -> float:
    """A question about masks always writes a file, in seconds since 1970."""
    return max(path.stat().st_mtime for path in (run, *run.rglob("*")))
