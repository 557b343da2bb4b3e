"""Released figures of a run: one evaluation after the other, computed in the background."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from server.evaluation.records import FOLDER, ReleaseRecord, ReleaseStore
from server.evaluation.summary import Summary, summarise
from server.rounds.records import RoundRecord
from shared_model.errors import SmrfedError
from shared_model.local_page.background import Background
from shared_model.plan import FederationPlan
from shared_model.protocol.messages import Kind

_CHARTED = 24


@dataclass(frozen=True)
class Release:
    """One release without its arrays; ``place`` names its file for ever."""

    asked: RoundRecord
    after_round: int
    place: tuple[str, int, int]
    body_sha256: str
    offsets: tuple[float, ...] | None


class RunReleases:
    """The releases of a run directory; a file is read once as long as it stays the same."""

    def __init__(self, run_dir: Path, plan: FederationPlan, later: Background) -> None:
        self._run_dir = run_dir
        self._plan = plan
        self._later = later
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int, int], Release] = {}

    def look(self) -> tuple[tuple[Release, ...], str | None]:
        """All releases in the order of the run, and what is wrong with one that is damaged."""
        store, problem = ReleaseStore(self._run_dir), None
        found = []
        with self._lock:
            places = set(self._places())
            self._known = {p: r for p, r in self._known.items() if p in places}
            for place in places:
                if place not in self._known:
                    try:
                        record = _read(store, place[0])
                    except (SmrfedError, ValueError) as error:
                        problem = str(getattr(error, "what", error))
                        continue
                    if record is None:
                        continue
                    self._known[place] = Release(
                        record.asked, record.after_round, place, record.body_sha256, record.offsets
                    )
                found.append(self._known[place])
        return tuple(sorted(found, key=lambda r: (r.asked.round, r.asked.kind))), problem

    def figures(self, release: Release) -> Summary | None:
        """Figures with intervals of an evaluation; None while they are being computed."""
        if release.asked.kind != "evaluate":
            return None
        key = ("figures", str(self._run_dir), self._plan.digest, release.place)
        return self._later.get(key, lambda: self._computed(release.place[0]))

    def charted(self, releases: tuple[Release, ...]) -> list[Release]:
        """Evaluations spread over the run, the newest always: few enough to be computed."""
        made = [release for release in releases if release.asked.kind == "evaluate"]
        if len(made) <= _CHARTED:
            return made
        step = (len(made) - 1) / (_CHARTED - 1)
        return [made[round(i * step)] for i in range(_CHARTED)]

    def _computed(self, name: str) -> Summary | None:
        record = _read(ReleaseStore(self._run_dir), name)
        return None if record is None else summarise(record, self._plan)

    def _places(self) -> list[tuple[str, int, int]]:
        try:
            with os.scandir(self._run_dir / FOLDER) as entries:
                return [
                    (e.name, e.stat().st_size, e.stat().st_mtime_ns)
                    for e in entries
                    if e.name.endswith(".json") and e.name[:1].isdigit()
                ]
        except OSError:
            return []


def _read(store: ReleaseStore, name: str) -> ReleaseRecord | None:
    number, _, kind = name.removesuffix(".json").partition("-")
    kinds: dict[str, Kind] = {
        "evaluate": "evaluate",
        "calibrate": "calibrate",
        "moments": "moments",
    }
    return store.find(kinds[kind], int(number)) if kind in kinds and number.isdigit() else None
