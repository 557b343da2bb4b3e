"""Disk, clock and the runs on the disk."""

from __future__ import annotations

import datetime
import os

from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorFolder
from server.evaluation.records import ReleaseStore
from server.receipts.book import ReceiptBook
from server.rounds.releases import released
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note
from shared_model.supervision import safety

_LEAST_BYTES = 2 << 30
_ENOUGH_BYTES = 10 << 30
_LEAST_FILES = 5000


def check_disk(home: CoordinatorFolder) -> str:
    """Room for checkpoints and Flower's database, which keeps old messages; raises SMR-E706."""
    facts = os.statvfs(home.path)
    free = facts.f_bavail * facts.f_frsize
    few_files = bool(facts.f_files) and facts.f_favail < _LEAST_FILES
    if free < _LEAST_BYTES or few_files or facts.f_flag & os.ST_RDONLY:
        raise SmrfedError(
            "SMR-E706",
            f"the file system of {home.path} cannot hold a run",
            expected=f"{_LEAST_BYTES / 1e9:.1f} GB and {_LEAST_FILES} file entries free, writable",
            found=f"{free / 1e9:.1f} GB, {facts.f_favail} entries"
            + (", mounted read-only" if facts.f_flag & os.ST_RDONLY else ""),
            remedy="free space, or move the coordinator's folder while nothing runs",
        )
    database = home.superlink_database
    kept = sum(p.stat().st_size for p in database.parent.glob(f"{database.name}*"))
    text = f"{free / 1e9:.1f} GB free; Flower's database: {kept / 1e6:.0f} MB"
    return Note(f"{text}: watch it") if free < _ENOUGH_BYTES else text


def check_clock(home: CoordinatorFolder) -> str:
    """This machine's clock against what was written down here; raises SMR-E706."""
    now = datetime.datetime.now(datetime.UTC)
    times = [path.stat().st_mtime for path in home.runs.glob("*/events.jsonl")]
    newest = datetime.datetime.fromtimestamp(max(times), datetime.UTC) if times else None
    safety.refuse("SMR-E706", safety.unsafe_clock(now, newest=newest))
    return f"{now:%Y-%m-%d %H:%M:%S} UTC; sites must agree to 5 minutes"


def check_runs(home: CoordinatorFolder) -> str:
    """Every run's newest checkpoint, releases and receipts are read and verified.

    Raises what the first damaged one raises (SMR-E530, E532, E561, E572), naming all.
    """
    runs = sorted(path.parent for path in home.runs.glob("*/run.json"))
    first: SmrfedError | None = None
    damaged: list[str] = []
    for path in runs:
        try:
            run = RunDirectory.open(path)
            released(run)
            ReleaseStore(path).all()
            ReceiptBook(path).read()
        except SmrfedError as error:
            damaged.append(f"{path.name}: {error.what}")
            first = first or error
    if first is not None:
        raise SmrfedError(
            first.code,
            f"{len(damaged)} of {len(runs)} runs cannot be read",
            expected=first.expected,
            found="; ".join(damaged),
            remedy=first.remedy,
        )
    return f"{len(runs)} runs: checkpoints, releases and receipts verified"
