"""Whole cohorts: several processes, resumable, the same voxels whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared_model.atlas.bids import save_dseg
from shared_model.atlas.cache import write_atomically
from shared_model.errors import SmrfedError
from simulations.cohort.atrophy import affected_regions, coefficients
from simulations.cohort.bids_writer import write_archive_head, write_sessions, write_tsv
from simulations.cohort.course import COURSE_COLUMNS, course_rows
from simulations.cohort.generate import truth_path, write_anatomy, write_patient
from simulations.cohort.spec import CohortSpec
from simulations.cohort.subject import Subject, draw_subject
from simulations.cohort.template import load_template
from simulations.cohort.truth import write_truth_table
from simulations.process_pool import in_processes

Progress = Callable[[int, int], None]
SPEC_FILE = "cohort.toml"


@dataclass(frozen=True)
class CohortFolders:
    """Where a cohort lies.

    Attributes:
        root: the folder given.
        truth: what no hospital could know; outside every archive.
    """

    root: Path

    @property
    def truth(self) -> Path:
        """``truth/``: volumes.tsv, effect.tsv, atlas_dseg, and a file per patient."""
        return self.root / "truth"

    @property
    def volumes(self) -> Path:
        """``volumes/``: clean npz volumes of a pretraining cohort."""
        return self.root / "volumes"

    def archive(self, site: str) -> Path:
        """``sites/<name>/``: that hospital's BIDS archive."""
        return self.root / "sites" / site


def generate_cohort(
    spec: CohortSpec, out_dir: Path, workers: int = 2, progress: Progress | None = None
) -> CohortFolders:
    """Write a BIDS archive per site, and the truth beside them.

    Patients that are complete are skipped, so a second call resumes; every file is whole or absent.

    Args:
        spec: the cohort.
        out_dir: created where absent.
        workers: processes; 1 stays in this one.
        progress: called with (patients done, patients in all).

    Raises:
        SmrfedError: SMR-E632 where the folder holds another cohort.
    """
    folders = CohortFolders(out_dir)
    _claim(spec, out_dir)
    subjects = all_subjects(spec)
    for site in spec.sites:
        own = [s for s in subjects if s.site.name == site.name]
        write_archive_head(folders.archive(site.name), site, own)
        for subject in own:
            if truth_path(folders.truth, subject).exists():
                # Complete patients of an older cohort get the rows that tables have today.
                write_sessions(folders.archive(site.name), subject)
    _run(partial(_patient, folders), subjects, folders, workers, progress)
    _finish(spec, subjects, folders)
    return folders


def generate_anatomy(
    spec: CohortSpec, out_dir: Path, workers: int = 2, progress: Progress | None = None
) -> CohortFolders:
    """Write clean first-visit volumes (npz, model grid 2 mm) for pretraining; same rules.

    Scanners are then drawn anew in every epoch, with apply_scanner and random_scanner.
    """
    folders = CohortFolders(out_dir)
    _claim(spec, out_dir)
    subjects = all_subjects(spec)
    _run(partial(_anatomy, folders), subjects, folders, workers, progress)
    _finish(spec, subjects, folders)
    return folders


def all_subjects(spec: CohortSpec) -> list[Subject]:
    """Every patient of a cohort, site by site."""
    return [draw_subject(spec, site, i) for site in spec.sites for i in range(site.patients)]


def _patient(folders: CohortFolders, subject: Subject) -> None:
    write_patient(subject, folders.archive(subject.site.name), folders.truth)


def _anatomy(folders: CohortFolders, subject: Subject) -> None:
    write_anatomy(subject, folders.volumes, folders.truth)


def _claim(spec: CohortSpec, out_dir: Path) -> None:
    path = out_dir / SPEC_FILE
    text = spec.to_toml()
    if path.exists() and path.read_text("utf-8") != text:
        raise SmrfedError(
            "SMR-E632",
            f"{out_dir} holds another cohort.",
            found=f"a different {SPEC_FILE}",
            expected="the same description and seed, to resume",
            remedy="Choose an empty folder, or delete this one.",
        )
    write_atomically(path, text.encode())


def _run(
    work: Callable[[Subject], None],
    subjects: Sequence[Subject],
    folders: CohortFolders,
    workers: int,
    progress: Progress | None,
) -> None:
    waiting = [s for s in subjects if not truth_path(folders.truth, s).exists()]
    run_patients(work, waiting, workers, progress, len(subjects) - len(waiting))


def run_patients(
    work: Callable[[Subject], None],
    waiting: Sequence[Subject],
    workers: int,
    progress: Progress | None = None,
    done: int = 0,
) -> None:
    """Do ``work`` for every patient in several processes; ``done`` were complete before."""
    total = done + len(waiting)
    tell = progress or (lambda _done, _total: None)
    tell(done, total)
    load_template()  # once here, so that the workers find it in the cache

    def one_more(_subject: Subject, _nothing: None) -> None:
        nonlocal done
        done += 1
        tell(done, total)

    in_processes(work, waiting, workers, one_more)


def _finish(spec: CohortSpec, subjects: Sequence[Subject], folders: CohortFolders) -> None:
    atlas = load_template().atlas
    write_truth_table(folders.truth, subjects, atlas.names)
    write_tsv(folders.truth / "course.tsv", COURSE_COLUMNS, course_rows(subjects))
    alpha = coefficients(atlas.names, spec.effect.alpha)
    beta = coefficients(atlas.names, spec.effect.beta)
    affected = affected_regions(atlas.names, spec.effect)
    own = {name: coefficients(atlas.names, table) for name, table in spec.effect.subtypes.items()}
    write_tsv(
        folders.truth / "effect.tsv",
        ("region", "alpha", "beta_per_decade", "affected", *(f"alpha_{name}" for name in own)),
        [
            (
                name,
                f"{alpha[i]:g}",
                f"{beta[i]:g}",
                "1" if name in affected else "0",
                *(f"{table[i]:g}" for table in own.values()),
            )
            for i, name in enumerate(atlas.names)
        ],
    )
    save_dseg(atlas, folders.truth / "atlas_dseg.nii.gz", folders.truth / "atlas_dseg.tsv")
