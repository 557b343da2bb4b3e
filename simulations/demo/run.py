"""``smrfed-sim demo``: cohort, hospitals, arms, report; each phase with a progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from client.training.site_model import SiteModel
from server.rounds.events import Event, Observer
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from simulations.arms.baseline_arms import baseline_arms
from simulations.arms.federated_arms import Runner, federated_run, in_process_runner
from simulations.arms.hospital import Hospital, load_hospital
from simulations.arms.neural_arms import alone_arm, pooled_arm, shuffled_arm
from simulations.cohort.cohort import generate_cohort
from simulations.cohort.design import UNSEEN_SITE, default_cohort
from simulations.cohort.truth import read_truth_table
from simulations.demo import evaluation as evaluation_page
from simulations.demo.assemble import assemble
from simulations.demo.settings import SPARE_ROUNDS, DemoSettings, demo_plan
from simulations.evaluation.explanations import explain, strongly_affected
from simulations.federation.secure_sum_plan import with_secure_sum
from simulations.federation.workspace import Workspace, create_workspace
from simulations.report.html import render_report
from simulations.report.results import FederationReport, Phase
from simulations.report.storage import write_report_json
from simulations.smrnet_access import first_scan, smrnet_of


@dataclass
class _Phases:
    """Progress bars on the terminal, and how long each phase took."""

    console: Console
    done: list[Phase] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """A phase of ``total`` steps; call the result with the number of steps done."""
        start = time.monotonic()
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as bars:
            task = bars.add_task(name, total=total)
            yield lambda count: bars.update(task, completed=count)
        self.done.append(Phase(name=name, seconds=round(time.monotonic() - start, 1)))


def run_demo(
    settings: DemoSettings,
    out: Path,
    console: Console,
    command: str,
    private_runner: Runner | None = None,
) -> FederationReport:
    """Make the cohort and all arms; write ``report.html``, ``report.json`` and the full evaluation.

    ``private_runner`` drives the private federation; none: in this process. Everything that it
    writes is kept under ``out``, so a second call goes on where the first stopped.
    """
    # One thread: the sums of a step then have one order, and a run repeats bit for bit.
    torch.set_num_threads(1)
    phases = _Phases(console)
    spec = default_cohort(settings.patients_per_site, settings.seed, settings.unseen_patients)
    patients = sum(site.patients for site in spec.sites)
    with phases.phase("1/7 synthetic patients", patients) as done:
        folders = generate_cohort(
            spec, out / "cohort", settings.workers, lambda count, _total: done(count)
        )
    members = {s.name: s.patients for s in spec.sites if s.name != UNSEEN_SITE}
    plan = demo_plan(settings, members, "local")
    open_plan = demo_plan(settings, members, "none")
    workspace = create_workspace(
        out / "parties",
        {site.name: folders.archive(site.name) for site in spec.sites},
        plan.task.labels,
        modes=(settings.privacy, "none"),
        max_epsilon=settings.epsilon,
    )
    if settings.privacy != "local":
        keys = workspace.signing_keys(list(members))
        plan = with_secure_sum(plan, settings.privacy, keys, spare_rounds=SPARE_ROUNDS)
    atlas = load_atlas(plan.atlas, plan.input.grid)
    model = SiteModel.build(open_plan, atlas)
    initial = model.shared_arrays()
    with phases.phase("2/7 reading and preparing scans", patients) as done:
        hospitals = _load_hospitals(workspace, open_plan, model, done)
    truth = read_truth_table(folders.truth)
    with phases.phase("3/7 baselines, alone, pooled, control", 6) as done:
        arms = baseline_arms(hospitals, truth, plan.task.labels)
        done(3)
        arms.append(alone_arm(model, initial, hospitals, open_plan))
        done(4)
        pooled = pooled_arm(model, initial, hospitals, open_plan)
        done(5)
        control = shuffled_arm(model, initial, hospitals, open_plan)
        done(6)
    runner = in_process_runner(atlas)
    model.load_shared(initial)
    with phases.phase("4/7 federation without privacy", open_plan.training.rounds) as done:
        unprotected = federated_run(
            open_plan, workspace, out / "runs", model, hospitals, runner, _follow(done)
        )
    model.load_shared(initial)
    with phases.phase("5/7 federation with privacy", plan.training.rounds) as done:
        private = federated_run(
            plan, workspace, out / "runs", model, hospitals, private_runner or runner,
            _follow(done),
        )  # fmt: skip
    arms += [unprotected.arm, private.arm]
    arms += [private.personalised] if private.personalised else []
    arms += [pooled, control]
    with phases.phase("6/7 report", 2) as done:
        explanations = explain(
            smrnet_of(model),
            [first_scan(p.inputs) for h in hospitals if not h.held_out for p in h.test],
            atlas,
            plan.input.grid,
            strongly_affected(atlas.names, spec.effect),
            settings.seed,
        )
        report = assemble(
            title="Four hospitals train SMR-Net together",
            command=command,
            seed=settings.seed,
            spec=spec,
            hospitals=hospitals,
            arms=arms,
            headline=private,
            explanations=explanations,
            phases=phases.done,
        )
        done(1)
        write_report_json(report, out / "report.json")
        render_report(report, out / "report.html", evaluation_page.PAGE)
        done(2)
    with phases.phase("7/7 full evaluation", len(arms)) as done:
        evaluation_page.evaluate_demo(
            title=report.run.title,
            command=command,
            commit=report.run.commit,
            seed=settings.seed,
            hospitals=hospitals,
            arms=arms,
            headline=private,
            model=model,
            workspace=workspace,
            out=out,
            robustness=settings.robustness,
            progress=lambda count, total: done(count * len(arms) // total),
        )
    return report


def _load_hospitals(
    workspace: Workspace, plan: FederationPlan, model: SiteModel, done: Callable[[int], None]
) -> list[Hospital]:
    count = 0

    def one_more() -> None:
        nonlocal count
        count += 1
        done(count)

    return [
        load_hospital(
            workspace.site_config(name),
            plan,
            model,
            held_out=name not in plan.weights,
            progress=one_more,
        )
        for name in workspace.site_names
    ]


def _follow(done: Callable[[int], None]) -> Observer:
    def observe(event: Event) -> None:
        if event.kind == "round_saved":
            done(event.round)

    return observe
