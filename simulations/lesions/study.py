"""The whole study, arm by arm; what is in the record already is not measured again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from client.training.site_model import SiteModel
from shared_model.atlas.cache import write_atomically
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, encode_arrays
from simulations.lesions.annotation_loop import annotation_round
from simulations.lesions.archive import write_lesion_cohort
from simulations.lesions.arms import (
    centralised,
    federated,
    scored,
    spent_epsilon,
    threshold_scored,
)
from simulations.lesions.hospitals import SITES, Hospital, hospitals, joined, open_workspace
from simulations.lesions.hospitals import study_cohort as cohort_of
from simulations.lesions.kinds import MICROBLEED_LIKE, STROKE_LIKE, LesionKind
from simulations.lesions.plans import Model, Schedule, lesion_plan
from simulations.lesions.threshold import SPOTS, best_threshold

EPSILON = 8.0
_LESIONS: dict[str, LesionKind] = {"segmentation": STROKE_LIKE, "detection": MICROBLEED_LIKE}
_MODELS: dict[str, Model] = {"segmentation": "unet", "detection": "lesion-detector"}


@dataclass(frozen=True)
class StudySettings:
    """What the command chooses."""

    patients: int = 40
    unseen: int = 10
    seed: int = 0
    workers: int = 2
    marked: tuple[int, ...] = (3, 9)
    corrected: int = 9
    schedule: Schedule = field(default_factory=Schedule)


class LesionStudy:
    """Arms by name, each written to the record as soon as it is done."""

    def __init__(self, out: Path, record: Path, settings: StudySettings, console: Console) -> None:
        self._out, self._record, self._console = out, record, console
        self._settings = settings
        self._found: dict[str, Any] = {}
        if record.exists():
            self._found = json.loads(record.read_text("utf-8"))
        self._atlas = load_atlas(_plan("unet", settings).atlas, _plan("unet", settings).input.grid)

    def run(self, tasks: tuple[str, ...]) -> dict[str, Any]:
        """Everything that is asked for and not there yet."""
        settings = self._settings
        spec = cohort_of(settings.patients, settings.unseen, settings.seed)
        self._console.print("writing archives with lesions")
        write_lesion_cohort(
            spec, (STROKE_LIKE, MICROBLEED_LIKE), self._out / "cohort", settings.workers
        )
        for task in tasks:
            if task == "annotation":
                self._annotation()
            else:
                self._task(task)
        return self._found

    def _task(self, task: str) -> None:
        name, kind = _MODELS[task], _LESIONS[task]
        plan = _plan(name, self._settings)
        workspace = open_workspace(self._out, kind)
        these = hospitals(workspace, plan, SiteModel.build(plan, self._atlas))
        train = joined(these, "train", unseen=False)
        runs = self._out / kind.name / "runs"

        def alone(site: Hospital) -> tuple[FederationPlan, Arrays]:
            own = _one_site(name, site.name, len(site.train), self._settings)
            return own, centralised(own, site.train, self._atlas)

        def together(model: Model) -> tuple[FederationPlan, Arrays]:
            one = _one_site(model, "pooled", len(train), self._settings)
            return one, centralised(one, train, self._atlas)

        def union(model: Model, epsilon: float | None) -> tuple[FederationPlan, Arrays]:
            given = _plan(model, self._settings, epsilon)
            run = runs / (f"{model}-private" if epsilon else model)
            return given, federated(given, workspace, run, self._atlas)

        def threshold() -> dict[str, Any]:
            found = best_threshold(train, SPOTS if task == "detection" else None)
            spacing = self._settings.schedule.spacing_mm
            figures = threshold_scored(found, these, spacing, boxes=task == "detection")
            return {"threshold": vars(found), **figures}

        self._arm(task, "threshold", threshold)
        self._trained(task, "federated", these, lambda: union(name, None))
        self._trained(task, "pooled", these, lambda: together(name))
        self._trained(task, "federated, private", these, lambda: union(name, EPSILON))
        private = self._found[task]["federated, private"]
        if "epsilon" not in private:
            private["epsilon"] = spent_epsilon(_plan(name, self._settings, EPSILON), workspace)
            self._save()
        if task == "segmentation":
            self._trained(task, "federated, hybrid", these, lambda: union("unet-transformer", None))
        for site in these:
            if site.train:
                self._trained(task, f"{site.name} alone", these, lambda s=site: alone(s))  # type: ignore[misc]

    def _annotation(self) -> None:
        plan, schedule = _plan("unet", self._settings), self._settings.schedule
        workspace = open_workspace(self._out, STROKE_LIKE)
        these = hospitals(workspace, plan, SiteModel.build(plan, self._atlas))
        train = joined(these, "train", unseen=False)
        # Hospitals in turn, so that the first few marked patients are of all of them.
        order = sorted(range(len(train)), key=lambda i: (i % (len(train) // len(SITES)), i))
        patients, test = [train[i] for i in order], joined(these, "test", unseen=False)
        shorter = replace(schedule, rounds=schedule.rounds * 5 // 8)
        for marked in self._settings.marked:
            self._arm(
                "annotation",
                f"{marked} marked",
                lambda n=marked: annotation_round(  # type: ignore[misc]
                    patients, test, self._atlas, shorter, n, self._settings.corrected
                ),
            )

    def _trained(
        self,
        task: str,
        arm: str,
        these: tuple[Hospital, ...],
        train: Callable[[], tuple[FederationPlan, Arrays]],
    ) -> None:
        def measure() -> dict[str, Any]:
            plan, shared = train()
            folder = self._out / _LESIONS[task].name / "models"
            write_atomically(
                folder / f"{arm.replace(', ', '-').replace(' ', '-')}.safetensors",
                encode_arrays(shared),
            )
            size = sum(value.size for value in shared.values())
            return {"parameters": size, **scored(plan, shared, self._atlas, these)}

        self._arm(task, arm, measure)

    def _arm(self, task: str, arm: str, measure: Callable[[], dict[str, Any]]) -> None:
        if arm in self._found.setdefault(task, {}):
            return
        began, wall = time.process_time(), time.monotonic()
        found = measure()
        found["cpu_s"] = round(time.process_time() - began, 1)
        self._found[task][arm] = found
        self._found["settings"] = _as_json(self._settings)
        self._save()
        self._console.print(
            f"{task}, {arm}: {found['cpu_s']:.0f} s of processor, "
            f"{time.monotonic() - wall:.0f} s in all"
        )

    def _save(self) -> None:
        # Tasks may be measured by processes of their own: theirs is kept.
        if self._record.exists():
            known = json.loads(self._record.read_text("utf-8"))
            self._found = known | {
                key: {**known.get(key, {}), **value} for key, value in self._found.items()
            }
        text = json.dumps(self._found, indent=1, allow_nan=False)
        write_atomically(self._record, (text + "\n").encode())


def _plan(model: Model, settings: StudySettings, epsilon: float | None = None) -> FederationPlan:
    declared = dict.fromkeys(SITES, _declared(settings))
    return lesion_plan(model, declared, settings.schedule, epsilon=epsilon, seed=settings.seed)


def _declared(settings: StudySettings) -> int:
    return round(settings.patients * 0.75)


def _one_site(model: Model, name: str, count: int, settings: StudySettings) -> FederationPlan:
    scans = settings.schedule.sampling_rate * _declared(settings) * len(SITES)
    rate = min(1.0, scans / count)
    return lesion_plan(
        model, {name: count}, settings.schedule, sampling_rate=rate, seed=settings.seed
    )


def _as_json(settings: StudySettings) -> dict[str, Any]:
    return {**vars(settings), "schedule": vars(settings.schedule)}
