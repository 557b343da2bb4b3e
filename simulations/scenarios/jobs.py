"""The independent pieces of an experiment: one seed, one federation, one arm, one noise draw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from simulations.cohort.spec import CohortSpec
from simulations.scenarios.hospitals import cohort_spec, folds, site_names
from simulations.scenarios.load import NamedScenario
from simulations.scenarios.plans import arm_plan, is_neural
from simulations.scenarios.schema import NEURAL, ArmKind, BesideSection, Scenario

# Raised when the same job would give other results, so that old records are not taken for new.
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Job:
    """What one process does without asking anybody.

    Attributes:
        seed: of cohort, split and training.
        held_out: the hospitals that nobody trains on.
        arms: the names of the arms that this job serves; they differ in what they look at.
        kind: what is done.
        plan: of the arm, with the members of this federation.
        repeat: which draw of the noise; 0 without privacy.
        cohort: the generated cohort, or None for archives.
        archives: existing archives by hospital, or empty.
        sites: all hospitals in order.
        beside: what is measured beside predictions, or None.
    """

    seed: int
    held_out: tuple[str, ...]
    arms: tuple[str, ...]
    kind: ArmKind
    plan: FederationPlan
    repeat: int
    cohort: CohortSpec | None
    archives: tuple[tuple[str, Path], ...]
    sites: tuple[str, ...]
    beside: BesideSection | None = None

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides the result: a finished job is known by it."""
        content = {
            "version": _VERSION,
            "cohort": None if self.cohort is None else self.cohort.model_dump(mode="json"),
            "archives": [(name, str(path)) for name, path in self.archives],
            "seed": self.seed,
            "held_out": sorted(self.held_out),
            "kind": self.kind,
            "plan": self.plan.digest if self.trains else self.plan.evaluation.model_dump(),
            "task": self.plan.task.model_dump(mode="json"),
            "repeat": self.repeat,
        }
        if self.beside is not None:
            content["beside"] = self.beside.model_dump(mode="json", exclude={"arms"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def trains(self) -> bool:
        """Whether the plan's model is trained."""
        return self.kind in NEURAL

    @property
    def file_name(self) -> str:
        """Name of its record, for people and for the digest."""
        left_out = "-".join(self.held_out) or "nobody"
        if len(left_out) > 40:
            left_out = f"{len(self.held_out)}-sites"
        return f"seed{self.seed}_{left_out}_{self.arms[0]}_{self.repeat}_{self.key[:12]}.json"


def jobs_of(named: NamedScenario) -> tuple[Job, ...]:
    """Every job of a scenario, those of one seed together.

    Arms with the same plan that only look at the result differently share a job.

    Raises:
        SmrfedError: SMR-E682 and SMR-E683.
    """
    jobs: dict[str, Job] = {}
    for job in _each(named):
        same = jobs.get(job.key)
        jobs[job.key] = job if same is None else replace(same, arms=(*same.arms, *job.arms))
    return tuple(jobs.values())


def _each(named: NamedScenario) -> Iterator[Job]:
    scenario = named.scenario
    _refuse_truth(named)
    names, left_out = site_names(scenario), folds(scenario)
    archives = tuple(
        (site, (named.folder / path).resolve()) for site, path in scenario.cohort.archives.items()
    )
    sizes = dict.fromkeys(names, 1)
    for seed in scenario.seeds:
        spec = None if archives else cohort_spec(named.name, scenario.cohort, seed)
        if spec is not None:
            sizes = {site.name: site.patients for site in spec.sites}
        else:
            sizes = {site: _people(site, path) for site, path in archives}
        for held_out in left_out:
            members = {name: sizes[name] for name in names if name not in held_out}
            for name, arm in scenario.arms.items():
                plan = arm_plan(scenario, name, seed, members)
                for repeat in range(arm.repeats if is_neural(arm) else 1):
                    yield Job(
                        seed, held_out, (name,), arm.kind, plan, repeat, spec, archives, names,
                        _beside(scenario, name, repeat),
                    )  # fmt: skip


def _beside(scenario: Scenario, arm: str, repeat: int) -> BesideSection | None:
    """Of the first noise draw only: pages show one model per arm and cohort."""
    section = scenario.beside
    return section if section is not None and arm in section.arms and not repeat else None


def _people(site: str, archive: Path) -> int:
    """Rows of an archive's participants.tsv: the public size that a plan declares."""
    try:
        lines = (archive / "participants.tsv").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SmrfedError(
            "SMR-E683",
            f"the archive of hospital {site!r} cannot be read",
            expected="a BIDS folder with participants.tsv",
            found=error,
            remedy="correct the path in [cohort.archives]; it is relative to the scenario's file",
        ) from None
    return max(1, sum(bool(line.strip()) for line in lines) - 1)


def _refuse_truth(named: NamedScenario) -> None:
    for name, arm in named.scenario.arms.items():
        if named.scenario.cohort.archives and arm.kind == "true_volumes":
            raise SmrfedError(
                "SMR-E683",
                f"arm {name!r} needs true volumes, which nobody knows of existing archives",
                expected="true_volumes only on a generated cohort",
                found="[cohort.archives]",
                remedy="use kind = 'region_volumes', which reads them off the images",
            )
