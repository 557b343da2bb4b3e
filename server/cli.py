"""``smrfed-coordinator``: read a plan, prepare a run, see how it goes, take the result."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from server.checkpoints.durable import replace_durably
from server.checkpoints.run_directory import RunDirectory
from server.dashboard.command import dashboard
from server.enrolment.additions import current_plan
from server.enrolment.commands import add_to as add_enrolment
from server.evaluation.command import evaluation
from server.evaluation.early_stop import early_end
from server.evaluation.records import ReleaseStore
from server.evaluation.view import as_facts, overview
from server.export import export_folder
from server.flower.cli import app as flower_app
from server.observability.command import metrics
from server.plan_drafting.command import initial as plan_initial
from server.plan_drafting.command import new as plan_new
from server.plan_drafting.initial import initial_parameters, read_parameters, unusable
from server.preflight.command import check
from server.receipts.command import receipts
from server.report.command import report
from server.rounds.participation import participation, participation_of
from server.rounds.quorum import Quorum
from server.rounds.records import RoundRecord
from server.rounds.releases import released
from server.run_path import HERE, Home, RunPath, in_home
from server.supervisor.command import up
from server.tracking.command import track
from server.watchdog.command import run, stop, watch
from server.watchdog.wanted import in_words, read_wanted
from shared_model.errors import SmrfedError
from shared_model.observability.log_setup import LOG_FORMAT_VARIABLE, LogFormatOption, log_to_stream
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, decode_arrays
from shared_model.protocol.keys import fingerprint, load_or_create_signing_key, public_path
from shared_model.public_weights import load_public_weights

app = typer.Typer(
    help="The coordinator of a smrfed federation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
plan_app = typer.Typer(help="Federation plans.", no_args_is_help=True)
# Flower itself is imported by the commands that talk to it, so the others do without it.
app.add_typer(flower_app, name="flower")
app.add_typer(plan_app, name="plan")
plan_app.command("new")(plan_new)
plan_app.command("initial")(plan_initial)
app.command()(receipts)
app.command()(evaluation)
app.command()(report)
add_enrolment(app)
app.command()(up)
app.command()(run)
app.command()(stop)
app.command()(watch)
app.command()(dashboard)
app.command()(check)
app.command()(metrics)
app.command()(track)

_out = Console()

AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]
PlanPath = Annotated[Path, typer.Argument(help="federation plan in TOML", metavar="PLAN")]


@app.callback()
def _root(log_format: LogFormatOption = "text") -> None:
    """The coordinator of a smrfed federation."""
    if log_format == "json":
        # What a supervisor starts writes the same.
        os.environ[LOG_FORMAT_VARIABLE] = "json"
        log_to_stream("smrfed-coordinator", "json", withhold=False)


@plan_app.command("show")
def show_plan(plan: PlanPath, as_json: AsJson = False) -> None:
    """Show the digest, the privacy that the plan promises, and its federated parameters."""
    # Accounting loads scipy, a second that the other commands need not wait.
    from server.plan_view import costs_table, expectations, release_costs, worst_patient

    agreed = FederationPlan.load(plan)
    privacy = agreed.privacy
    spent = worst_patient(agreed)
    facts: dict[str, Any] = {
        "name": agreed.name,
        "digest": agreed.digest,
        "sites": agreed.weights,
        "min_sites": agreed.federation.min_sites,
        "min_patients": agreed.federation.min_patients,
        "rounds": agreed.training.rounds,
        "steps_per_site": agreed.total_steps,
        "privacy_mode": privacy.mode,
        "epsilon": spent,
        "epsilon_budget": privacy.epsilon if privacy.mode != "none" else None,
        "delta": privacy.delta if privacy.mode != "none" else None,
        "releases": release_costs(agreed),
        "expectations": expectations(agreed),
        "shared_parameters": _shared_parameters(agreed),
    }
    if as_json:
        print(json.dumps(facts))
        return
    guarantee = "none: for public or synthetic data only"
    if spent is not None:
        guarantee = f"epsilon {spent:.3f} at delta {privacy.delta:g} for the worst patient"
        guarantee += (
            f" (budget {privacy.epsilon:g}{'' if spent <= privacy.epsilon else ': EXCEEDED'})"
        )
    count = facts["shared_parameters"]
    rows = {
        "plan": agreed.name,
        "digest": agreed.digest,
        "privacy": f"mode {privacy.mode}, {guarantee}",
        "rounds": f"{agreed.training.rounds}, {agreed.training.local_steps} local steps each",
        "sites (weight)": ", ".join(f"{name} ({w})" for name, w in agreed.weights.items()),
        "quorum": f"{Quorum.of(agreed)}, of {len(agreed.weights)} sites",
        "shared parameters": (
            "known once a run is created" if count is None else f"{count:,} in the public weights"
        ),
    }
    _print_facts(rows | expectations(agreed))
    _out.print(costs_table(agreed))


@app.command()
def key(
    path: Annotated[Path, typer.Argument(help="private key; its public half is PATH.pub")],
) -> None:
    """Make the coordinator's signing key, or show the fingerprint of the one that is there."""
    try:
        private = load_or_create_signing_key(path)
    except OSError as error:
        raise unusable(path, error) from None
    rows = {"public key": str(public_path(path)), "fingerprint": fingerprint(private.public_key())}
    _print_facts(rows)


@app.command()
def create(
    plan: PlanPath,
    run_dir: Annotated[
        Path, typer.Argument(help="new folder, or its name in HOME/runs", metavar="RUN_DIR")
    ],
    initial: Annotated[
        Path | None,
        typer.Option(
            help="file of `plan initial`, safetensors; default: computed here, with torch"
        ),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(help="identifier that every message carries; default: the folder's name"),
    ] = None,
    home: Home = HERE,
) -> None:
    """Create a run directory; of the initial parameters it keeps the plan's shared group."""
    agreed = FederationPlan.load(plan)
    arrays = initial_parameters(agreed) if initial is None else read_parameters(initial)
    shared = agreed.groups.split(arrays)["shared"]
    path = in_home(run_dir, home)
    run = RunDirectory.create(
        path, agreed, {name: arrays[name] for name in shared}, run_id or path.name
    )
    count = sum(arrays[name].size for name in shared)
    _print_facts({"run": str(run.path), "plan digest": agreed.digest, "shared": f"{count:,}"})


@app.command()
def status(
    run_dir: RunPath,
    as_json: AsJson = False,
    rounds: Annotated[int, typer.Option(min=1, help="show the last so many rounds")] = 20,
) -> None:
    """Show how far a run is, who was accepted in each round, and why others were not."""
    run = RunDirectory.open(run_dir)
    state, stopped, finalised = run.latest(), run.stopped(), run.finalised()
    releases = ReleaseStore(run.path).all()
    asked = sorted(
        (*state.history, *(r.asked for r in releases)), key=lambda r: (r.round, r.kind != "train")
    )
    shown = [*asked[-rounds:], *(r for r in (stopped, finalised) if r is not None)]
    early = "" if finalised is None else early_end(run.plan, state.round)
    shares, wanted = participation_of(current_plan(run), state.history), read_wanted(run.path)
    if as_json:
        facts = {
            "run_id": run.run_id,
            "plan_digest": run.plan.digest,
            "rounds_completed": state.round,
            "rounds": run.plan.training.rounds,
            "global_sha256": body_digest(state.body),
            "shared_parameters": _size(state.body),
            "history": [record.model_dump(mode="json") for record in state.history[-rounds:]],
            "stopped": None if stopped is None else stopped.model_dump(mode="json"),
            "finalised": None if finalised is None else finalised.model_dump(mode="json"),
            "releases": [as_facts(record, run.plan) for record in releases],
            "participation": shares.model_dump(mode="json"),
            "wanted": None if wanted is None else wanted.model_dump(mode="json"),
        }
        print(json.dumps(facts))
        return
    _print_facts(
        {
            "run": f"{run.run_id} ({run.plan.name})",
            "plan digest": run.plan.digest,
            "rounds": f"{state.round} of {run.plan.training.rounds} completed"
            + (f", {early}" if early else ""),
            "shared parameters": f"{_size(state.body):,}",
            "participation": shares.in_words,
        }
        | ({} if wanted is None else {"wanted": in_words(wanted)})
    )
    for warning in shares.warnings:
        _out.print(escape(f"WARNING: {warning}"), style="yellow", highlight=False)
    table = Table("round", "accepted", "set aside", "attempts", "seconds")
    for record in shown:
        table.add_row(*_cells(record, stopped))
    if shown:
        _out.print(table)
    if any(record.asked.kind == "evaluate" for record in releases):
        _out.print(overview(releases, current_plan(run)))


@app.command()
def export(
    run_dir: RunPath,
    out: Annotated[
        Path, typer.Argument(help="file (*.safetensors), or folder with plan and moments")
    ],
) -> None:
    """Write the newest model: its parameters alone, or a folder for hospitals that took no part."""
    run = RunDirectory.open(run_dir)
    state = run.latest()
    if state.round == 0:
        raise SmrfedError(
            "SMR-E540",
            f"the run in {run_dir} has completed no round yet",
            remedy="wait for the first round; the initial parameters are in initial.safetensors",
        )
    left_out: SmrfedError | None = None
    try:
        model, _ = released(run)
        if out.suffix == ".safetensors":
            replace_durably(out, model.body)
        else:
            left_out = export_folder(run, out)
    except OSError as error:
        raise unusable(out, error) from None
    total = run.plan.training.rounds
    _print_facts(
        {
            "written": f"{out}: {_size(model.body):,} parameters after round "
            f"{model.after_round}/{total}",
            "sha256": body_digest(model.body),
        }
        | {"participation": participation(run).in_words}
        | ({} if left_out is None else {"without moments": f"{left_out.what} ({left_out.found})"})
    )
    for warning in participation(run).warnings:
        _out.print(escape(f"WARNING: {warning}"), style="yellow", highlight=False)


def main() -> None:
    """Run the command line; errors leave as number, situation and remedy, with exit status 1."""
    try:
        app()
    except SmrfedError as error:
        Console(stderr=True, soft_wrap=True).print(escape(error.render()), highlight=False)
        raise SystemExit(1) from None


def _shared_parameters(plan: FederationPlan) -> int | None:
    """Counted in the plan's public weights, when they are installed here and hold them."""
    if plan.model.weights_sha256 is None:
        return None
    try:
        arrays = load_public_weights(plan.model.weights_sha256)
    except SmrfedError:
        return None
    # Weights of a frozen encoder hold none of them.
    return sum(arrays[name].size for name in plan.groups.split(arrays)["shared"]) or None


def _cells(record: RoundRecord, stopped: RoundRecord | None) -> list[str]:
    label = {"train": str(record.round), "evaluate": f"{record.round}, evaluate",
             "moments": f"{record.round}, moments"}.get(record.kind, record.kind)  # fmt: skip
    if record is stopped:
        label += " (quorum missed)"
    why_not = [f"{site}: {why}" for site, why in record.set_aside.items()]
    if record.void is not None:
        label += " (void)"
        why_not.insert(0, record.void)
    aside = "\n".join(why_not)
    accepted = ", ".join(record.accepted) or "none"
    cells = [label, accepted, aside, str(record.attempts), f"{record.seconds:.1f}"]
    return [escape(cell) for cell in cells]


def _size(body: bytes) -> int:
    return sum(value.size for value in decode_arrays(body).values())


def _print_facts(rows: dict[str, str]) -> None:
    # Not wrapped to the terminal: digests and fingerprints are there to be copied and compared.
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        _out.print(f"[bold]{name:{width}}[/bold]{escape(value)}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
