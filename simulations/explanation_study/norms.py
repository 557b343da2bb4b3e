"""Normal region volumes for age and sex, measured on public people."""

from __future__ import annotations

from functools import partial

import numpy as np

from client.explanation.volumes import prepared_volumes
from client.prepared.brain_mask import find_brain
from client.prepared.intensity import standardise
from client.prepared.resample import to_grid
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.seeded import seeded_atlas
from shared_model.atlas.select import load_atlas
from shared_model.explanation.norms import Measured, VolumeNorms, fit_norms
from shared_model.plan import AtlasSection, InputSection
from simulations.cohort.cohort import all_subjects
from simulations.cohort.design import public_cohort
from simulations.cohort.generate import acquire
from simulations.cohort.subject import Subject
from simulations.process_pool import in_processes

#: Not the seed that public weights were trained on: norms of other people.
SEED = 7


def measure_norms(people: int, workers: int, command: str) -> VolumeNorms:
    """Norms of the cognitively normal among ``people`` public subjects, for the default input."""
    section = InputSection()
    atlas = load_atlas(AtlasSection(), section.grid)
    healthy = [s for s in all_subjects(public_cohort(people, SEED)) if s.diagnosis == "CN"]
    measured: list[Measured] = []
    in_processes(
        partial(_measure, atlas, section),
        healthy,
        workers,
        lambda _subject, found: measured.append(found),
    )
    # The processes finish in any order; a sum of floats has only one.
    measured.sort(key=lambda person: (person.age, person.log_share.tolist()))
    intercept, per_decade, male, sd = fit_norms(measured)
    ages = [person.age for person in measured]
    return VolumeNorms(
        reference=f"{len(measured)} healthy synthetic people, a random scanner for each; no real "
        "person is among them",
        command=command,
        people=len(measured),
        atlas_sha256=seeded_atlas().sha256,
        spacing_mm=section.grid.spacing_mm,
        intensity=section.intensity,
        age_low=min(ages),
        age_high=max(ages),
        intercept=_rounded(intercept),
        per_decade=_rounded(per_decade),
        male=_rounded(male),
        sd=_rounded(sd),
    )


def _measure(atlas: Atlas, section: InputSection, subject: Subject) -> Measured:
    visit = subject.visits[0]
    scan = acquire(subject, visit)
    on_grid = to_grid(scan.image, scan.affine, section.grid)
    mask = find_brain(on_grid, section.grid).mask
    ml, brain_ml = prepared_volumes(standardise(on_grid, mask, section.intensity), atlas)
    return Measured(np.log(ml / brain_ml), visit.age, subject.sex)


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
