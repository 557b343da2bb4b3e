"""``smrfed-sim``: simulate federations on this machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from shared_model.errors import SmrfedError
from shared_model.start_environment import start_environment
from simulations.audit.command import audit_command
from simulations.battery.command import battery_command
from simulations.connectomes.command import connectome_command
from simulations.conversion.command import conversion_command
from simulations.evaluation.command import evaluate_command
from simulations.explanation_study.command import explain_study_command
from simulations.explanation_study.norms_command import volume_norms_command
from simulations.few_labels.command import cross_disease_command, label_curve_command
from simulations.lesions.command import lesion_study_command
from simulations.models.command import models_app
from simulations.modes_study.command import modes_command
from simulations.multimodal.command import multimodal_command
from simulations.pretraining.command import pretrain_command
from simulations.privacy_study.command import privacy_command
from simulations.scenarios.command import run_command
from simulations.scenarios.tracking import track_command
from simulations.volume_reference.command import volume_reference_command
from simulations.weights.command import weights_app

app = typer.Typer(
    help="Simulate federations of hospitals on this machine, with synthetic patients.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_MARK = "SMRFED_SIM_ENVIRONMENT"

_Out = Annotated[Path, typer.Option("--out", help="folder for everything that is written")]


@app.callback()
def _root() -> None:
    """Simulate federations of hospitals on this machine, with synthetic patients."""


@app.command()
def demo(
    out: _Out = Path("runs/demo"),
    deployed: Annotated[
        bool, typer.Option("--deployed", help="real Flower processes with TLS on loopback")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Flower's Ray engine: one worker per site and core")
    ] = False,
    patients: Annotated[
        int, typer.Option("--patients", min=12, help="patients at each hospital")
    ] = 60,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the synthetic patients")] = 0,
    epsilon: Annotated[float, typer.Option("--epsilon", help="privacy budget per patient")] = 8.0,
    privacy: Annotated[
        Literal["local", "distributed", "central"],
        typer.Option(help="who adds the noise: each hospital all of its own, shares, coordinator"),
    ] = "local",
    robustness: Annotated[
        bool, typer.Option("--robustness", help="also test on scans that were made worse")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report's JSON path")] = False,
) -> None:
    """Four synthetic hospitals train SMR-Net with privacy; a fifth, unseen one is tested."""
    from simulations.demo.run import run_demo
    from simulations.demo.settings import DemoSettings
    from simulations.demo.summary import print_summary

    settings = DemoSettings(
        patients_per_site=patients,
        unseen_patients=patients,
        seed=seed,
        epsilon=epsilon,
        privacy=privacy,
        robustness=robustness,
    )
    console = Console(stderr=as_json)
    if deployed and ray:
        raise typer.BadParameter("choose one of --deployed and --ray")
    command = "smrfed-sim demo" + (" --deployed" if deployed else "") + (" --ray" if ray else "")
    command += f" --patients {patients}" if patients != 60 else ""
    command += f" --seed {seed}" if seed else ""
    command += f" --epsilon {epsilon:g}" if epsilon != 8.0 else ""
    command += f" --privacy {privacy}" if privacy != "local" else ""
    command += " --robustness" if robustness else ""
    runner = None
    if deployed:
        from simulations.demo.deployed import deployed_runner

        runner = deployed_runner(console)
    elif ray:
        from simulations.demo.under_ray import ray_runner

        runner = ray_runner()
    report = run_demo(settings, out, console, command, runner)
    print_summary(report, out / "report.html", console)
    if as_json:
        typer.echo(out / "report.json")


app.add_typer(models_app, name="models")
app.command("pretrain")(pretrain_command)
app.command("volume-reference")(volume_reference_command)
app.command("audit")(audit_command)
app.command("privacy")(privacy_command)
app.command("modes-study")(modes_command)
app.command("run")(run_command)
app.command("track")(track_command)
app.command("evaluate")(evaluate_command)
app.command("battery")(battery_command)
app.command("explain-study")(explain_study_command)
app.command("volume-norms")(volume_norms_command)
app.command("lesion-study")(lesion_study_command)
app.command("connectome-study")(connectome_command)
app.command("cross-disease")(cross_disease_command)
app.command("conversion")(conversion_command)
app.command("label-curve")(label_curve_command)
app.add_typer(weights_app, name="weights")
app.command("multimodal-study")(multimodal_command)


@app.command("recorded-run")
def recorded_run(
    out: Annotated[Path, typer.Option("--out", help="folder for cohorts and hospitals")] = Path(
        "runs/recorded"
    ),
    record: Annotated[Path, typer.Option("--record", help="JSON file of the figures")] = Path(
        "docs/recorded_run.json"
    ),
    workers: Annotated[int, typer.Option("--workers", min=1)] = 2,
) -> None:
    """Repeat the run behind the cohort's defaults: three seeds, 448 subjects each (20 min)."""
    from simulations.experiments.recorded_run import run_and_record

    run_and_record(out, record, workers, Console())


def main() -> None:
    """Entry point: numbered errors on stderr with exit code 1, Ctrl-C and SIGTERM with 130."""
    if _MARK not in os.environ:
        # The C library reads its settings when a process starts, so start once more with them.
        environment = {**start_environment(1), **os.environ, _MARK: "1"}
        os.execve(
            sys.executable, [sys.executable, "-m", "simulations.cli", *sys.argv[1:]], environment
        )
    # A batch system's stop ends worker processes as Ctrl-C does, instead of leaving them idle.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(prog_name="smrfed-sim")
    except SmrfedError as error:
        Console(stderr=True).print(error.render(), style="red", markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
