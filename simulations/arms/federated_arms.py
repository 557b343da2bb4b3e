"""The arms that go through the real protocol: agents, ledgers, gates, signed replies, driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.agent.state import StateFolder
from client.config import SiteConfig
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RunResult
from server.rounds.events import Event, Observer
from server.rounds.releases import released_body
from shared_model.atlas.atlas import Atlas
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays
from simulations.arms.arm import ArmResult, LearningCurve, predict_everywhere
from simulations.arms.hospital import Hospital
from simulations.federation.run import final_site_arrays, open_run, run_in_process
from simulations.federation.workspace import Workspace
from simulations.report.results import PrivacySpent, RoundParticipation, SetAside

# Drives a run directory to its end: in this process, or over real Flower processes.
Runner = Callable[[FederationPlan, Workspace, RunDirectory, Observer], RunResult | None]


@dataclass(frozen=True, eq=False)
class FederatedRun:
    """A finished federated run and what it left behind."""

    plan: FederationPlan
    run_dir: RunDirectory
    arm: ArmResult
    personalised: ArmResult | None
    participation: tuple[RoundParticipation, ...]
    privacy: tuple[PrivacySpent, ...]


def in_process_runner(atlas: Atlas) -> Runner:
    """A runner that keeps everything in this process."""

    def run(
        plan: FederationPlan, workspace: Workspace, run_dir: RunDirectory, observer: Observer
    ) -> RunResult:
        return run_in_process(plan, workspace, run_dir, atlas, observer)

    return run


_NOISE = {
    "local": "each adding its own noise",
    "distributed": "each adding a share of the noise to one masked sum",
    "central": "the coordinator adding the noise to one masked sum",
}


def federated_run(
    plan: FederationPlan,
    workspace: Workspace,
    runs: Path,
    model: SiteModel,
    hospitals: Sequence[Hospital],
    runner: Runner,
    observer: Observer | None = None,
    *,
    follow_curve: bool = True,
) -> FederatedRun:
    """Run a plan, follow its learning curve, and evaluate the released and personal models.

    The curve and the personal models are looked at by the simulation only; in a federation neither
    leaves the hospitals.
    """
    private = plan.privacy.mode != "none"
    run_id = "private" if private else "open"
    run_dir = open_run(runs / run_id, plan, model.shared_arrays(), run_id)
    curve = LearningCurve(model, hospitals, run_dir.path / "curve.json")

    def follow(event: Event) -> None:
        if follow_curve and event.kind == "round_saved":
            curve.add(event.round, decode_arrays(run_dir.latest().release_body))
        if observer is not None:
            observer(event)

    runner(plan, workspace, run_dir, follow)
    state = run_dir.latest()
    shared = decode_arrays(released_body(run_dir))
    privacy = _privacy(plan, workspace) if private else ()
    epsilon = max((spent.spent_epsilon for spent in privacy), default=None)
    title = "Federated, patient-level privacy" if private else "Federated, no privacy"
    what = (
        f"SMR-Net trained by the four hospitals together, {_NOISE[plan.privacy.mode]}; the arm "
        "that this report is about."
        if private
        else "The same federation without clipping and noise: what privacy costs is the difference."
    )
    arm = ArmResult(
        "federated-private" if private else "federated",
        title,
        what,
        "federated",
        predict_everywhere(model, shared, hospitals),
        shared,
        epsilon,
        curve.curves,
    )
    own = final_site_arrays(workspace, tuple(plan.weights), run_id)
    personalised = None
    if own:
        members = [hospital for hospital in hospitals if hospital.name in own]
        personalised = ArmResult(
            f"{arm.key}-personal",
            f"{title}, personalised",
            "The released model with the residual that each hospital fitted for itself after the "
            "last release; it never leaves the hospital.",
            "federated",
            predict_everywhere(model, shared, members, own),
            epsilon=epsilon,
        )
    model.load_shared(shared)
    participation = tuple(
        RoundParticipation(
            round=record.round,
            accepted=record.accepted,
            set_aside=tuple(
                SetAside(site=site, reason=reason) for site, reason in record.set_aside.items()
            ),
        )
        for record in state.history
    )
    return FederatedRun(plan, run_dir, arm, personalised, participation, privacy)


def _privacy(plan: FederationPlan, workspace: Workspace) -> tuple[PrivacySpent, ...]:
    """What every hospital's own ledger says."""
    out = []
    for name in plan.weights:
        config = SiteConfig.load(workspace.site_config(name))
        ledger = Ledger(StateFolder(config.state_dir).ledger)
        entries = ledger.entries()
        out.append(
            PrivacySpent(
                site=name,
                spent_epsilon=ledger.spent(plan.privacy.delta),
                budget_epsilon=plan.privacy.epsilon,
                delta=plan.privacy.delta,
                steps=sum(entry.use.steps for entry in entries),
            )
        )
    return tuple(out)
