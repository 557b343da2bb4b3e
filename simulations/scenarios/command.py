"""``smrfed-sim run``: a scenario from its file to a table with intervals."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared_model.errors import SmrfedError


def run_command(
    scenario: Annotated[
        str | None, typer.Argument(help="a shipped scenario, or a TOML file; none: list them")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for everything; runs/SCENARIO")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="instead of the scenario's, e.g. 1,2,3")
    ] = None,
    arms: Annotated[
        str | None, typer.Option("--arms", help="only these, by name, with commas between")
    ] = None,
    size: Annotated[
        float | None,
        typer.Option(
            "--size", min=0.05, max=20, help="every archive so many times as large: 0.25 for a try"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="processes; all cores")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--again", help="keep finished jobs, or do all of them again")
    ] = True,
    ray: Annotated[bool, typer.Option("--ray", help="spread jobs over a Ray cluster")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the results as JSON")] = False,
) -> None:
    """Run an experiment on synthetic hospitals: a scenario names hospitals, arms, comparisons."""
    from simulations.scenarios.load import load_scenario, shipped_names

    console = Console(stderr=as_json)
    if scenario is None:
        for name in shipped_names():
            console.print(f"{name:<20} {load_scenario(name).scenario.title}", highlight=False)
        return
    named = load_scenario(scenario).chosen(_numbers(seeds), _names(arms), size)
    # The training stack takes seconds to import: a mistake in the call is told before that.
    from simulations.scenarios.outputs import print_results, write_outputs
    from simulations.scenarios.run import Machine, run_scenario, visible_gpus

    folder = out or Path("runs") / named.name
    machine = Machine(workers or os.cpu_count() or 1, visible_gpus(), ray)
    jobs = run_scenario(named, folder, machine, console, again=not resume)
    words = ["smrfed-sim", "run", scenario]
    words += ["--seeds", seeds] if seeds else []
    words += ["--arms", arms] if arms else []
    words += ["--size", f"{size:g}"] if size is not None else []
    results = write_outputs(named, jobs, folder, shlex.join(words))
    if as_json:
        typer.echo(results.model_dump_json())
    else:
        print_results(results, folder, console)


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = ()
    if not found or min(found) < 0:
        raise SmrfedError(
            "SMR-E684",
            "--seeds names no seed",
            expected="whole numbers from 0 with commas between, such as 1,2,3",
            found=repr(text),
            remedy="leave the option out for the seeds of the scenario",
        )
    return found


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip()) or ("",)
