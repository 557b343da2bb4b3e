"""``smrfed-sim connectome-study``: ConneX on synthetic connectomes whose truth is known."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared_model.atlas.cache import write_atomically
from shared_model.errors import SmrfedError
from simulations.connectomes.results import Arm, ConnexStudy
from simulations.connectomes.spec import ConnectomeSpec

SEEDS = (1, 2, 3)
FEDERATED = "federated"


def connectome_command(
    out: Annotated[Path, typer.Option("--out", help="folder for archives and runs")] = Path(
        "runs/connectomes"
    ),
    record: Annotated[Path, typer.Option("--record", help="JSON file of the results")] = Path(
        "docs/connex.json"
    ),
    page: Annotated[Path, typer.Option("--page", help="Markdown page with the tables")] = Path(
        "docs/connex.md"
    ),
    seeds: Annotated[list[int] | None, typer.Option("--seed", min=0, help="repeatable")] = None,
    items: Annotated[
        list[str] | None,
        typer.Option(
            "--item",
            help="main, interaction, cohorts, missing, coupling or federated; repeatable",
        ),
    ] = None,
    patients: Annotated[int, typer.Option("--patients", min=20, help="at each site")] = 120,
    effect: Annotated[
        float, typer.Option("--effect", min=0, help="of a planted edge, in deviations of people")
    ] = 0.8,
) -> None:
    """Planted edges, ablations, missing modalities, two cohorts, coupling, federation (10 min).

    Results of the record that are not measured again are kept.
    """
    from simulations.connectomes.federated import federated
    from simulations.connectomes.page import renew, tables
    from simulations.connectomes.questions import QUESTIONS, Setting

    questions = {**QUESTIONS, FEDERATED: federated}
    chosen = items or list(questions)
    if unknown := set(chosen) - set(questions):
        raise SmrfedError(
            "SMR-E735",
            "the connectome study has no such item",
            expected=", ".join(questions),
            found=", ".join(sorted(unknown)),
            remedy="name some of these with --item, or none for all",
        )
    console = Console()
    for name in chosen:
        for seed in seeds or SEEDS:
            spec = ConnectomeSpec(seed=seed, anatomy=seed, patients=patients, effect=effect)
            start, done = time.process_time(), list[Arm]()
            for arm in questions[name](Setting(spec, out)):
                done.append(arm)
                told = ", ".join(f"{key} {value:.3f}" for key, value in arm.figures.items())
                console.print(f"seed {seed} {name}: {arm.arm}: {told}", highlight=False)
            study = _kept(record, spec, done, time.process_time() - start)
    if page.exists():
        renew(page, study)
    console.print(tables(study), highlight=False, markup=False)


def _kept(record: Path, spec: ConnectomeSpec, done: list[Arm], seconds: float) -> ConnexStudy:
    """The record with these arms in it; those of the same name and seed are replaced."""
    from simulations.benchmarks.machine import Machine

    before = _before(record)
    again = {(arm.item, arm.arm, arm.seed) for arm in done}
    kept = [a for a in before.arms if (a.item, a.arm, a.seed) not in again] if before else []
    study = ConnexStudy(
        command="smrfed-sim connectome-study",
        machine=str(Machine.now()),
        spec=spec.model_dump(include={"patients", "effect", "regions", "planted"}),
        arms=tuple(kept + done),
        cpu_seconds=seconds + (before.cpu_seconds if before else 0.0),
    )
    write_atomically(record, (study.model_dump_json(indent=1) + "\n").encode())
    return study


def _before(record: Path) -> ConnexStudy | None:
    if not record.exists():
        return None
    return ConnexStudy.model_validate(json.loads(record.read_text(encoding="utf-8")))
