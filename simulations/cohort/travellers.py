"""Travelling phantoms: the same people scanned at every hospital, so that only the scanner differs.

The anatomy of a person is fixed by seed and position alone; pose in the scanner, coil field and
noise are drawn anew at every hospital, as in a real travelling-subject study.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from simulations.cohort.bids_writer import write_archive_head
from simulations.cohort.cohort import Progress, run_patients
from simulations.cohort.generate import truth_path, write_patient
from simulations.cohort.spec import CohortSpec, SiteSpec
from simulations.cohort.subject import Subject, draw_subject

#: The home of the travellers; it enters every random draw, so none is a patient of a hospital.
HOME = "travellers"


def travellers(spec: CohortSpec, people: int) -> list[Subject]:
    """People with equal shares of the diagnoses, one visit each, who live at no hospital."""
    home = SiteSpec(name=HOME, patients=people, prevalence=(0.34, 0.33, 0.33))
    at_home = spec.model_copy(update={"sites": (home,), "second_session_share": 0.0})
    return [draw_subject(at_home, home, index) for index in range(people)]


def at_hospital(person: Subject, site: SiteSpec, occasion: str = "") -> Subject:
    """A traveller in the scanner of a hospital: its grid, pose, coil and noise, and a session.

    Another ``occasion`` (letters and digits) is another scan there: pose and noise drawn anew.
    """
    scanner = site.model_copy(update={"name": person.site.name})
    session = site.name.replace("-", "") + occasion
    return replace(
        person,
        site=scanner,
        visits=tuple(replace(visit, session=session) for visit in person.visits),
    )


def generate_travellers(
    spec: CohortSpec,
    people: int,
    out_dir: Path,
    workers: int = 2,
    progress: Progress | None = None,
    occasion: str = "",
) -> dict[str, Path]:
    """Write a BIDS archive of the same people for every hospital of a cohort, by name.

    ``out_dir/sites/<name>`` with the truth in ``out_dir/truth/<name>``; complete patients are
    skipped, so a second call resumes. Participant ids agree between the archives.
    """
    home = travellers(spec, people)
    archives = {}
    for site in spec.sites:
        archive, truth = out_dir / "sites" / site.name, out_dir / "truth" / site.name
        guests = [at_hospital(person, site, occasion) for person in home]
        write_archive_head(archive, site, guests)
        left = [guest for guest in guests if not truth_path(truth, guest).exists()]
        run_patients(partial(_guest, archive, truth), left, workers, progress)
        archives[site.name] = archive
    return archives


def _guest(archive: Path, truth: Path, guest: Subject) -> None:
    write_patient(guest, archive, truth)
