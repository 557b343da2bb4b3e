"""The study's hospitals: archives with lesions, folders and keys, examples of their patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.agent.state import StateFolder
from client.archive.bids import read_bids_archive
from client.archive.plan_split import split_by_plan
from client.config import SiteConfig
from client.prepared.scan_fields import ScanFields
from client.prepared.scan_source import scan_source
from client.training.examples import PatientExamples, patient_examples
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from simulations.cohort.design import UNSEEN_SITE, default_cohort
from simulations.cohort.spec import CohortSpec
from simulations.federation.workspace import Workspace, create_workspace
from simulations.lesions.archive import archive_of
from simulations.lesions.kinds import LesionKind

#: Hospitals that train; the unseen one of the default cohort is tested on only.
SITES = ("site-a", "site-b", "site-c")


def study_cohort(patients: int, unseen: int, seed: int) -> CohortSpec:
    """Three hospitals and an unseen one, one scan per patient."""
    spec = default_cohort(patients, seed, unseen)
    kept = tuple(site for site in spec.sites if site.name in (*SITES, UNSEEN_SITE))
    return spec.model_copy(update={"sites": kept, "second_session_share": 0.0})


@dataclass(frozen=True, eq=False)
class Hospital:
    """One hospital's patients; an unseen one has test patients only."""

    name: str
    train: tuple[PatientExamples, ...]
    test: tuple[PatientExamples, ...]


def open_workspace(out: Path, kind: LesionKind) -> Workspace:
    """Folders and keys of all hospitals for one kind of lesion."""
    names = (*SITES, UNSEEN_SITE)
    archives = {name: archive_of(out / "cohort", kind, name) for name in names}
    return create_workspace(
        out / kind.name / "hospitals",
        archives,
        ("background", "lesion"),
        modes=("none", "local"),
        max_epsilon=100.0,
        max_shared_parameters=200_000,
    )


def hospitals(workspace: Workspace, plan: FederationPlan, model: SiteModel) -> tuple[Hospital, ...]:
    """Examples at every hospital, split as the agents split them."""
    out = []
    for name in workspace.site_names:
        config = SiteConfig.load(workspace.site_config(name))
        source = scan_source(config, plan)
        patients = read_bids_archive(config.dataset, config.label_mapping, ())
        source.prepare(patients)
        fields = ScanFields(config, plan)
        tokens = StateFolder(config.state_dir).tokens
        unseen = name == UNSEEN_SITE
        split = None if unseen else split_by_plan(patients, plan)
        train, test = ((), patients) if split is None else (split.train, split.test)
        made = [
            tuple(patient_examples(model, side, source, tokens, fields=fields))
            for side in (train, test)
        ]
        out.append(Hospital(name, *made))
    return tuple(out)


def joined(these: Sequence[Hospital], side: str, *, unseen: bool) -> tuple[PatientExamples, ...]:
    """Training or test patients of the hospitals that train, or of the unseen one."""
    return tuple(
        patient
        for hospital in these
        if (hospital.name == UNSEEN_SITE) == unseen
        for patient in getattr(hospital, side)
    )
