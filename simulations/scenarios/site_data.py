"""Hospitals and models as the jobs of one process share them: read once, used by many arms."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from client.agent.state import StateFolder
from client.archive.patients import Patient
from client.archive.plan_split import split_by_plan
from client.archive.split import Split
from client.config import SiteConfig
from client.prepared.scan_source import ScanSource, scan_source
from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.protocol.arrays import Arrays
from simulations.arms.hospital import Hospital, load_hospital
from simulations.baselines.known_patients import Volumes
from simulations.baselines.measured_volumes import kept_volumes
from simulations.cohort.cohort import CohortFolders
from simulations.cohort.truth import TruthTable, read_truth_table
from simulations.federation.workspace import Workspace, create_workspace
from simulations.scenarios.jobs import Job

Value = TypeVar("Value")
_KEPT = 6
# Tokens of a cohort take some 30 MB for each model that reads them, and are read again in a second:
# jobs of one seed and one model follow one another.
_COHORTS_KEPT = 2


@dataclass(frozen=True, eq=False)
class TrainableModel:
    """A model and the public parameters that every arm starts from."""

    site_model: SiteModel
    initial: Arrays

    def fresh(self) -> SiteModel:
        """The model as it was built."""
        self.site_model.load_shared(dict(self.initial))
        self.site_model.reset_site()
        return self.site_model


@dataclass
class SiteData:
    """The cohort of one seed below ``out``, with what was read of it.

    ``out/cohort-SEED`` holds the archives and ``out/parties-SEED`` the prepared scans and tokens,
    as :mod:`simulations.experiments.seed_cohort` lays them out.
    """

    out: Path
    device: str = "cpu"
    _models: OrderedDict[str, TrainableModel] = field(default_factory=OrderedDict)
    _hospitals: OrderedDict[str, dict[str, Hospital]] = field(default_factory=OrderedDict)
    _atlases: OrderedDict[str, Atlas] = field(default_factory=OrderedDict)
    _parties: OrderedDict[str, Workspace] = field(default_factory=OrderedDict)
    _truths: OrderedDict[str, TruthTable] = field(default_factory=OrderedDict)

    def archives(self, job: Job) -> dict[str, Path]:
        """BIDS archive of every hospital."""
        if job.archives:
            return dict(job.archives)
        return {name: self.folders(job).archive(name) for name in job.sites}

    def folders(self, job: Job) -> CohortFolders:
        """Where the job's generated cohort lies."""
        return CohortFolders(self.out / f"cohort-{job.seed}")

    def parties(self, job: Job) -> Workspace:
        """The hospitals of a seed, which only hold caches: every job has hospitals of its own."""
        return _kept(
            self._parties,
            str(job.seed),
            lambda: create_workspace(
                self.out / f"parties-{job.seed}",
                self.archives(job),
                job.plan.task.labels,
                modes=("none",),
                device=self.device,
            ),
        )

    def own_parties(self, job: Job, folder: Path) -> Workspace:
        """Hospitals with a fresh ledger for one job, that share prepared scans and tokens."""
        archives = self.archives(job)
        modes: tuple[PrivacyMode, ...] = (job.plan.privacy.mode,)
        members = {entry.name: archives[entry.name] for entry in job.plan.federation.sites}
        workspace = create_workspace(
            folder,
            members,
            job.plan.task.labels,
            modes=modes,
            max_epsilon=job.plan.privacy.epsilon,
            device=self.device,
        )
        shared = self.parties(job)
        for name in members:
            own, theirs = (
                SiteConfig.load(w.site_config(name)).state_dir for w in (workspace, shared)
            )
            for part in (StateFolder(theirs).tokens, theirs / "prepared"):
                part.mkdir(parents=True, exist_ok=True)
                (own / part.name).symlink_to(part.resolve(), target_is_directory=True)
        return workspace

    def atlas(self, plan: FederationPlan) -> Atlas:
        """The plan's atlas on its grid."""
        key = plan.atlas.model_dump_json() + plan.input.grid.model_dump_json()
        return _kept(self._atlases, key, lambda: load_atlas(plan.atlas, plan.input.grid))

    def model(self, plan: FederationPlan) -> TrainableModel:
        """The plan's model."""
        return _kept(self._models, _model_key(plan), lambda: self._build(plan))

    def hospitals(self, job: Job) -> tuple[Hospital, ...]:
        """Every hospital with its split and its examples, those held out for testing only."""
        return tuple(self.hospital(job, name) for name in job.sites)

    def hospital(self, job: Job, name: str) -> Hospital:
        """One hospital; reads its scans, and keeps their tokens on disk."""
        held_out = name in job.held_out
        config = self.parties(job).site_config(name)
        cohort = _kept(self._hospitals, f"{job.seed}|{_model_key(job.plan)}", dict, _COHORTS_KEPT)
        key = f"{name}|{held_out}"
        if key not in cohort:
            cohort[key] = load_hospital(
                config, job.plan, self.model(job.plan).site_model, held_out=held_out
            )
        return cohort[key]

    def patients(self, job: Job, name: str) -> tuple[Patient, ...]:
        """Everybody of one hospital, without their images."""
        return self.source(job, name).patients()

    def source(self, job: Job, name: str) -> ScanSource:
        """The prepared scans of one hospital."""
        return scan_source(SiteConfig.load(self.parties(job).site_config(name)), job.plan)

    def split(self, job: Job, patients: Sequence[Patient]) -> Split:
        """Who trains and who tests at a hospital that takes part."""
        return split_by_plan(patients, job.plan)

    def truth(self, job: Job) -> TruthTable:
        """What no hospital could know of a generated cohort."""
        return _kept(self._truths, str(job.seed), lambda: read_truth_table(self.folders(job).truth))

    def volumes(self, job: Job, name: str, patients: Sequence[Patient]) -> Volumes:
        """Region volumes measured on the first scan of the patients of one hospital."""
        folder = self.out / f"volumes-{job.seed}" / name
        atlas = self.atlas(job.plan)
        return {
            (name, p.id): kept_volumes(p.scans[0], atlas, folder / f"{p.id}.json") for p in patients
        }

    def _build(self, plan: FederationPlan) -> TrainableModel:
        # One thread: the sums of a step then have one order, and a job repeats bit for bit.
        torch.set_num_threads(1)
        site_model = SiteModel.build(plan, self.atlas(plan), device=self.device)
        return TrainableModel(site_model, site_model.shared_arrays())


def _model_key(plan: FederationPlan) -> str:
    """What decides model, inputs and split: the rest of a plan is only read while training."""
    whole = plan.model_dump(mode="json")
    parts = {name: whole[name] for name in ("seed", "task", "model", "atlas", "input", "groups")}
    parts |= {name: whole[name] for name in ("augmentation", "evaluation")}
    parts["site_norm"] = whole["adaptation"]["site_norm"]
    return json.dumps(parts, sort_keys=True)


def _kept(
    cache: OrderedDict[str, Value], key: str, make: Callable[[], Value], most: int = _KEPT
) -> Value:
    if key not in cache:
        cache[key] = make()
        while len(cache) > most:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]
