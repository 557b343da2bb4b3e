"""All runs of the coordinator's folder: short facts of each, everything of the few looked at."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from server.dashboard.progress import Progress, progress_of
from server.dashboard.received import Reconciled, RunReceipts
from server.dashboard.released import Release, RunReleases
from server.dashboard.run_files import (
    RunFiles,
    Signature,
    is_driven,
    read_run,
    run_folders,
    signature,
    why_unreadable,
)
from server.dashboard.site_lines import SiteLine, site_lines
from server.dashboard.spent import Asked, asked_of, most_asked, planned_epsilon, spent_epsilon
from server.rounds.participation import Participation, participation_of
from server.rounds.records import RoundRecord
from shared_model.errors import SmrfedError
from shared_model.local_page.background import Background

_OPEN = 4
_SHORT = 21
# A list of many long runs is read over a few looks, so that none waits long.
_READING_S = 1.5


@dataclass(frozen=True)
class Summary:
    """One run in the list; ``problem`` instead of everything else where it cannot be read.

    ``files`` holds the last rounds only; without it and without a problem the run is still being
    read.
    """

    name: str
    files: RunFiles | None = None
    progress: Progress | None = None
    planned: float | None = None
    spent: float | None = None
    warnings: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class View:
    """Everything about one run."""

    files: RunFiles
    progress: Progress
    sites: tuple[SiteLine, ...]
    releases: tuple[Release, ...]
    releases_problem: str | None
    receipts: Reconciled
    planned: float | None
    spent: float | None
    figures: RunReleases
    participation: Participation

    @property
    def history(self) -> tuple[RoundRecord, ...]:
        """All exchanges in the order in which they took place."""
        order = ("train", "moments", "calibrate", "evaluate", "finalise")
        records = [*self.files.history, *(release.asked for release in self.releases)]
        records += [r for r in (self.files.stopped, self.files.finalised) if r is not None]
        return tuple(sorted(records, key=lambda r: (r.round, order.index(r.kind))))


@dataclass
class _Short:
    seen: Signature
    files: RunFiles | None
    asked: Asked
    problem: str | None
    warnings: tuple[str, ...] = ()


class RunCatalogue:
    """Reads runs when they are asked for; keeps little of each, and all of the last few."""

    def __init__(self, runs: Path, later: Background) -> None:
        self._runs = runs
        self._later = later
        self._lock = threading.Lock()
        self._short: dict[str, _Short] = {}
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def summaries(self) -> tuple[Summary, ...]:
        """One per run, the newest change first."""
        folders = run_folders(self._runs)
        with self._lock:
            names = {folder.name for folder in folders}
            self._short = {n: s for n, s in self._short.items() if n in names}
            end = time.monotonic() + _READING_S
            for folder in folders:
                self._renew(folder, late=time.monotonic() > end)
            found = [self._summary(folder, self._short.get(folder.name)) for folder in folders]
            newest = {
                name: max((stat[3] for stat in short.seen), default=0)
                for name, short in self._short.items()
            }
        return tuple(sorted(found, key=lambda one: (-newest.get(one.name, 0), one.name)))

    def view(self, name: str) -> View | None:
        """Everything about the run in the folder of this name; None where there is none.

        Raises SMR-E530 and E535 where it cannot be read.
        """
        folder = next((f for f in run_folders(self._runs) if f.name == name), None)
        if folder is None:
            return None
        with self._lock:
            opened = self._open.get(name)
            if opened is None or opened.path != folder:
                opened = self._open[name] = _Open(folder, self._later)
            self._open.move_to_end(name)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return opened.view()

    def _renew(self, folder: Path, *, late: bool) -> None:
        """Read a run that has changed; when it is late, the facts before serve once more."""
        seen = signature(folder)
        known = self._short.get(folder.name)
        if late or (known is not None and known.seen == seen):
            return
        try:
            files = read_run(folder)
        except (SmrfedError, OSError, ValueError) as error:
            self._short[folder.name] = _Short(seen, None, Asked(), why_unreadable(error))
            return
        asked = most_asked({site: asked_of(site, files.history) for site in files.weights})
        short = replace(files, history=files.history[-_SHORT:], events=_since_question(files))
        warnings = participation_of(files.members, files.history).warnings
        self._short[folder.name] = _Short(seen, short, asked, None, warnings)

    def _summary(self, folder: Path, short: _Short | None) -> Summary:
        if short is None:
            return Summary(folder.name)
        if short.files is None:
            return Summary(folder.name, problem=short.problem)
        files = replace(short.files, driven=is_driven(folder))
        progress = progress_of(files)
        asked = _with_releases(folder, short.asked).plus(train=_one_more(progress))
        return Summary(
            name=folder.name,
            files=files,
            progress=progress,
            planned=planned_epsilon(files.plan, self._later),
            spent=spent_epsilon(files.plan, asked, self._later),
            warnings=short.warnings,
        )


class _Open:
    """One run that somebody looks at."""

    def __init__(self, path: Path, later: Background) -> None:
        self.path = path
        self._later = later
        self._lock = threading.Lock()
        self._read: tuple[Signature, RunFiles] | None = None
        self._receipts = RunReceipts(path)
        self._releases: RunReleases | None = None

    def view(self) -> View:
        with self._lock:
            seen = signature(self.path)
            if self._read is None or self._read[0] != seen:
                self._read = seen, read_run(self.path)
                if self._releases is None:
                    self._releases = RunReleases(self.path, self._read[1].plan, self._later)
            files = replace(self._read[1], driven=is_driven(self.path))
            assert self._releases is not None
            releases, problem = self._releases.look()
            asked_for = (one for record in files.history for one in record.exchanges)
            records = (*asked_for, *(release.asked for release in releases))
            told = [r for r in (files.stopped, files.finalised) if r is not None]
            receipts, by_site = self._receipts.look((*records, *told))
        progress = progress_of(files)
        more = _one_more(progress)
        asked = {site: asked_of(site, records).plus(train=more) for site in files.weights}
        return View(
            files=files,
            progress=progress,
            sites=site_lines(files, records, by_site, asked, self._later),
            releases=releases,
            releases_problem=problem,
            receipts=receipts,
            planned=planned_epsilon(files.plan, self._later),
            spent=spent_epsilon(files.plan, most_asked(asked), self._later),
            figures=self._releases,
            participation=participation_of(files.members, files.history),
        )


def _one_more(progress: Progress) -> int:
    """The round under way may be charged already."""
    return int(progress.under_way.startswith("round "))


def _with_releases(folder: Path, asked: Asked) -> Asked:
    kinds = [path.stem.partition("-")[2] for path in (folder / "releases").glob("[0-9]*.json")]
    return asked.plus(**{k: kinds.count(k) for k in ("moments", "calibrate", "evaluate")})


def _since_question(files: RunFiles) -> tuple[dict[str, object], ...]:
    events = [dict(event) for event in files.events]
    starts = [i for i, event in enumerate(events) if event["kind"] == "round_started"]
    return tuple(events[starts[-1] :] if starts else events[-1:])


def shared_parameters(run: Path, completed: int) -> int | None:
    """How many numbers the newest model has, from the head of its file."""
    folder = run / "rounds" / f"{completed:05d}" if completed else run
    name = "global.safetensors" if completed else "initial.safetensors"
    try:
        with (folder / name).open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            head = json.loads(file.read(min(size, 8 << 20)))
        total = 0
        for key, about in head.items():
            if key != "__metadata__":
                count = 1
                for length in about["shape"]:
                    count *= length
                total += count
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return total
