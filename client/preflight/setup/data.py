"""The archive and what quality control said of its scans; counts are shown at the hospital only."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from client.config import SiteConfig
from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.preflight.checks import Note, NotLookedAt


def check_archive(site: CheckedSite) -> str:
    """Read the archive as training does; raises SMR-E203 to SMR-E222."""
    try:
        from client.archive.bids import read_bids_archive, survey_bids_archive
    except ImportError as error:
        raise NotLookedAt(f"{error.name} is not installed here") from None

    config, plan = site.config, site.plan
    if config.dicom is not None and not config.dataset.exists():
        return Note("DICOM files that were not taken in yet: smrfed-site prepare")
    if plan is not None and plan.task.kind != "classification":
        return _check_masks(config, plan)
    labels = plan.task.labels if plan is not None else config.label_names
    left_out = ""
    if plan is None or plan.input.preparation.source == "mni152":
        patients = read_bids_archive(config.dataset, config.label_mapping, labels)
    else:
        survey = survey_bids_archive(config.dataset, config.label_mapping, labels)
        patients = survey.patients
        left_out = f"; {len(survey.exclusions)} excluded, see smrfed-site prepare"
    counts = Counter(labels[patient.label] for patient in patients)
    shown = ", ".join(f"{label} {counts[label]}" for label in labels)
    scans = sum(len(patient.scans) for patient in patients)
    return f"{len(patients)} patients, {scans} scans ({shown}){left_out}; shown here only"


def _check_masks(config: SiteConfig, plan: FederationPlan) -> str:
    """For a plan about lesions diagnoses are not looked at; raises SMR-E225 and E229 as well."""
    from client.prepared.scan_source import scan_source

    patients = scan_source(config, plan).patients()
    scans = sum(len(patient.scans) for patient in patients)
    return f"{len(patients)} patients, {scans} scans with a lesion mask; shown here only"


def check_quality(site: CheckedSite) -> str:
    """How many scans are prepared, used, blocked, and wait for a person, as ``prepare`` left it.

    Raises SMR-E444 when no scan may be used.
    """
    if site.plan is not None and site.plan.input.preparation.source == "mni152":
        return "the plan takes aligned scans as they are: no quality control"
    rows = _table(site.state.derivatives / "quality.tsv")
    if rows is None:
        return Note("no scan is prepared yet: smrfed-site prepare")
    excluded = len(_table(site.state.derivatives / "excluded.tsv") or ())
    used = sum(row.get("used") == "yes" for row in rows)
    waiting = sum(_waits(row) for row in rows)
    text = (
        f"{len(rows)} scans prepared, {used} used, {waiting} wait for review, {excluded} rows in "
        "excluded.tsv; shown here only"
    )
    if not used:
        raise SmrfedError(
            "SMR-E444",
            "quality control lets no scan of this hospital be used",
            expected="at least one scan that passes, or that a person has accepted",
            found=text,
            remedy="look at derivatives/quality.html in state_dir; mend the scans, or accept them "
            "with smrfed-site review, then run smrfed-site prepare again",
        )
    return Note(text) if waiting else text


def _waits(row: Mapping[str, str]) -> bool:
    decided = row.get("decision", "n/a") != "n/a"
    return row.get("verdict") == "review" and row.get("used") == "no" and not decided


def _table(path: Path) -> Sequence[Mapping[str, str]] | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except FileNotFoundError:
        return None
