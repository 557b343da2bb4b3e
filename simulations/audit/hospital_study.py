"""A synthetic hospital and its real agent: what the coordinator gets to see of its patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from server.rounds.events import Event
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.protocol.arrays import Arrays, decode_arrays
from simulations.arms.hospital import load_hospital
from simulations.cohort.cohort import generate_cohort
from simulations.cohort.design import default_cohort
from simulations.demo.settings import DemoSettings, demo_plan
from simulations.federation.run import open_run, run_in_process
from simulations.federation.workspace import Workspace, create_workspace

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class AuditedHospital:
    """One hospital, half of whose patients train.

    Attributes:
        plans: with and without privacy, otherwise equal: the demonstration's plan for one site.
        members: training patients.
        outsiders: test patients, of the same hospital and scanner.
    """

    name: str
    plans: dict[PrivacyMode, FederationPlan]
    atlas: Atlas
    workspace: Workspace
    model: SiteModel
    initial: Arrays
    members: tuple[PatientExamples, ...]
    outsiders: tuple[PatientExamples, ...]


def make_patients(cohort: Path, patients: int, seed: int, workers: int, progress: Progress) -> Path:
    """The BIDS archive of one synthetic hospital below ``cohort``; made, or gone on with."""
    whole = default_cohort(patients, seed)
    spec = whole.model_copy(update={"sites": whole.sites[:1], "name": "audit"})
    return generate_cohort(spec, cohort, workers, progress).archive(spec.sites[0].name)


def open_hospital(
    archive: Path, parties: Path, *, patients: int, epsilon: float, seed: int, progress: Progress
) -> AuditedHospital:
    """A hospital that holds this archive, with configuration, policy and state in ``parties``."""
    name = archive.name
    settings = DemoSettings(patients_per_site=patients, seed=seed, epsilon=epsilon)
    modes: tuple[PrivacyMode, ...] = ("local", "none")
    plans = {mode: demo_plan(settings, {name: patients}, mode, 0.5) for mode in modes}
    workspace = create_workspace(
        parties,
        {name: archive},
        plans["none"].task.labels,
        modes=modes,
        max_epsilon=epsilon,
    )
    atlas = load_atlas(plans["none"].atlas, plans["none"].input.grid)
    model = SiteModel.build(plans["none"], atlas)
    initial = model.shared_arrays()
    count = 0

    def one_more() -> None:
        nonlocal count
        count += 1
        progress(count, patients)

    hospital = load_hospital(workspace.site_config(name), plans["none"], model, progress=one_more)
    return AuditedHospital(
        name, plans, atlas, workspace, model, initial, hospital.train, hospital.test
    )


def released_parameters(
    hospital: AuditedHospital, mode: PrivacyMode, runs: Path, progress: Progress
) -> list[Arrays]:
    """The shared parameters before the first round and after each, from the agent's own replies.

    With one hospital these are its sealed updates added up: all that the coordinator sees.
    """
    plan = hospital.plans[mode]
    run_dir = open_run(runs / mode, plan, hospital.initial, f"audit-{mode}")
    bodies = [hospital.initial]

    def follow(event: Event) -> None:
        if event.kind == "round_saved":
            bodies.append(decode_arrays(run_dir.latest().body))
            progress(event.round, plan.training.rounds)

    run_in_process(plan, hospital.workspace, run_dir, hospital.atlas, follow)
    if len(bodies) != plan.training.rounds + 1:
        raise RuntimeError(f"{len(bodies) - 1} of {plan.training.rounds} rounds were seen")
    return bodies


def everybody(hospital: AuditedHospital) -> Sequence[PatientExamples]:
    """Members first, then outsiders."""
    return (*hospital.members, *hospital.outsiders)
