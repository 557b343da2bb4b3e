"""Do one job: train or fit, predict, keep the record; a job that is killed leaves nothing."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from client.archive.patients import Patient
from shared_model.evaluation.table import PredictionTable
from simulations.arms.arm import ArmResult
from simulations.arms.baseline_arms import baseline_predictions, truth_rows
from simulations.arms.federated_arms import federated_run, in_process_runner
from simulations.arms.hospital import Hospital
from simulations.arms.neural_arms import alone_arm, pooled_arm, shuffled_arm
from simulations.arms.unseen_arm import adapted_predictions
from simulations.baselines.demographics import Demographics
from simulations.baselines.harmonised_volumes import HarmonisedVolumes
from simulations.baselines.known_patients import patient_table
from simulations.baselines.prior import Prior
from simulations.baselines.region_volumes import RegionVolumes
from simulations.baselines.subject_table import Baseline, Floats, SubjectTable
from simulations.evaluation.beside import corrupted_of, embeddings_of
from simulations.evaluation.export import arm_table, patient_tables, trained_on
from simulations.evaluation.predictions import Predictions, by_model
from simulations.federation.summed_plan import with_keys
from simulations.scenarios.jobs import Job
from simulations.scenarios.records import Record, Records, Views
from simulations.scenarios.schema import MEASURED
from simulations.scenarios.site_data import SiteData

_BASELINES: dict[str, Baseline] = {
    "prior": Prior(),
    "age_sex": Demographics(),
    "region_volumes": RegionVolumes(),
    "harmonised_volumes": HarmonisedVolumes(),
    "true_volumes": RegionVolumes(),
}
_WORK = "work"


def run_job(job: Job, data: SiteData) -> Path:
    """Run a job whose cohort is there, and return the path of its record.

    Raises what training, agents and driver raise.
    """
    records = Records(data.out / "records")
    records.keep(job, _done(job, data))
    # A driver and its callbacks hold one another, and through them the agents and all their tokens.
    gc.collect()
    return records.path(job)


def _done(job: Job, data: SiteData) -> Record:
    hospitals = data.hospitals(job) if job.trains else _without_images(job, data)
    if not job.trains:
        found = baseline_predictions(
            _BASELINES[job.kind], hospitals, lambda people: _rows(job, data, people)
        )
        return Record(
            {"released": [_table(job, data, hospitals, found)]}, None, _trained_on(hospitals)
        )
    if job.kind == "federated":
        return _federated(job, data, hospitals)
    model = data.model(job.plan)
    site_model, initial, plan = model.fresh(), model.initial, job.plan
    epsilon = None if plan.privacy.mode == "none" else plan.privacy.epsilon
    if job.kind == "alone":
        arm = alone_arm(site_model, initial, hospitals, plan)
        return Record(_alone_views(job, data, hospitals, arm), epsilon, _trained_on(hospitals))
    if job.kind == "pooled":
        arm = pooled_arm(site_model, initial, hospitals, plan, follow=False)
    else:
        arm = shuffled_arm(site_model, initial, hospitals, plan)
    views = {"released": [_table(job, data, hospitals, arm.predictions)]}
    return _with_beside(Record(views, epsilon, _trained_on(hospitals)), job, data, hospitals, arm)


def _federated(job: Job, data: SiteData, hospitals: Sequence[Hospital]) -> Record:
    """Real agents, ledgers, gates and driver, in folders of this job alone."""
    folder = data.out / _WORK / f"{job.key[:16]}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        parties = data.own_parties(job, folder / "parties")
        run = federated_run(
            # The job is known by its plan with stand-in keys; these hospitals made their own.
            with_keys(job.plan, parties.signing_keys(list(job.plan.weights))),
            parties,
            folder / "runs",
            data.model(job.plan).fresh(),
            hospitals,
            in_process_runner(data.atlas(job.plan)),
            follow_curve=False,
        )
        adapted = None
        if job.plan.calibration.unseen_sites and job.held_out:
            adapted = adapted_predictions(run.run_dir, hospitals, run.arm.predictions)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    views = {"released": [_table(job, data, hospitals, run.arm.predictions)]}
    if run.personalised is not None:
        own = {**run.arm.predictions, **run.personalised.predictions}
        views["own"] = [_table(job, data, hospitals, own)]
    if adapted is not None:
        personal = {} if run.personalised is None else run.personalised.predictions
        everywhere = {**run.arm.predictions, **personal, **adapted}
        views["adapted"] = [_table(job, data, hospitals, everywhere)]
    record = Record(views, run.arm.epsilon, _trained_on(hospitals))
    return _with_beside(record, job, data, hospitals, run.arm)


def _trained_on(hospitals: Sequence[Hospital]) -> tuple[str, ...]:
    return tuple(sorted(trained_on(hospitals)))


def _with_beside(
    record: Record, job: Job, data: SiteData, hospitals: Sequence[Hospital], arm: ArmResult
) -> Record:
    """The record with embeddings and answers on worse scans, where the scenario asks for them."""
    wanted = job.beside
    if wanted is None or arm.shared is None:
        return record
    model = data.model(job.plan).fresh()
    embeddings = embeddings_of(model, arm.shared, hospitals) if wanted.embeddings else None
    corrupted = None
    if wanted.corruption:
        corrupted = corrupted_of(
            model,
            arm.shared,
            hospitals,
            {hospital.name: data.source(job, hospital.name) for hospital in hospitals},
            wanted.corruption,
            wanted.severities,
            job.seed,
        )
    return replace(record, embeddings=embeddings, corrupted=corrupted)


def _alone_views(job: Job, data: SiteData, hospitals: Sequence[Hospital], arm: ArmResult) -> Views:
    """One table per hospital's own model: tested at home and at the hospitals held out."""
    members = [hospital for hospital in hospitals if not hospital.held_out]
    abroad = {h.name: by_model(arm.predictions[h.name]) for h in hospitals if h.held_out}
    tables = []
    for number, home in enumerate(members):
        own = {home.name: arm.predictions[home.name]}
        own |= {name: models[number] for name, models in abroad.items()}
        tables.append(_table(job, data, hospitals, own))
    return {"released": tables}


def _without_images(job: Job, data: SiteData) -> tuple[Hospital, ...]:
    """Hospitals with their split only: a baseline looks at no image."""
    out = []
    for name in job.sites:
        patients = data.patients(job, name)
        held_out = name in job.held_out
        if held_out:
            out.append(Hospital(name, True, (), patients, (), ()))
        else:
            split = data.split(job, patients)
            out.append(Hospital(name, False, split.train, split.test, (), ()))
    return tuple(out)


def _rows(job: Job, data: SiteData, people: Sequence[tuple[str, Patient]]) -> SubjectTable:
    labels = job.plan.task.labels
    if job.kind == "true_volumes":
        return truth_rows([(site, p.id) for site, p in people], data.truth(job), labels)
    if job.kind in MEASURED:
        volumes: dict[tuple[str, str], tuple[Floats, float]] = {}
        for site in dict.fromkeys(site for site, _ in people):
            volumes |= data.volumes(job, site, [p for s, p in people if s == site])
        return patient_table(people, labels, data.atlas(job.plan).names, volumes)
    return patient_table(people, labels)


def _table(
    job: Job, data: SiteData, hospitals: Sequence[Hospital], predictions: Mapping[str, Predictions]
) -> PredictionTable:
    """One row per test patient, hospital by hospital, with what its archive says of it."""
    shown = [h for h in hospitals if h.name in predictions and h.test_patients]
    known = patient_tables(shown, data.parties(job), job.plan.task.labels)
    own = {hospital.name: predictions[hospital.name] for hospital in shown}
    table = arm_table(ArmResult(job.kind, job.kind, "", "federated", own), known)
    assert table is not None
    return table
