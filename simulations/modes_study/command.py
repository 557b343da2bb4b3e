"""``smrfed-sim modes-study``: what each privacy mode is worth at equal epsilon."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def modes_command(
    out: Annotated[Path, typer.Option("--out", help="cohorts, runs, figures and picture")] = Path(
        "runs/recorded"
    ),
    epsilon: Annotated[
        list[float] | None, typer.Option("--epsilon", help="budgets; repeat the option")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="cohorts; repeat the option")
    ] = None,
    hospitals: Annotated[
        list[int] | None, typer.Option("--hospitals", help="numbers of hospitals; repeat")
    ] = None,
    hospitals_epsilon: Annotated[
        float, typer.Option("--hospitals-epsilon", help="budget of that comparison")
    ] = 1.0,
    patients: Annotated[int, typer.Option("--patients", min=12, help="at each hospital")] = 96,
    unseen: Annotated[int, typer.Option("--unseen", min=12, help="at the unseen hospital")] = 64,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="noise draws per cohort")] = 3,
    tune: Annotated[
        bool, typer.Option("--tune", help="only try schedules, on other cohorts")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
) -> None:
    """Compare local, distributed and central noise at equal epsilon, for 2 to 8 hospitals."""
    from simulations.modes_study.plots import modes_picture
    from simulations.modes_study.settings import TUNING, ModesSettings
    from simulations.modes_study.study import run_study
    from simulations.modes_study.tables import gains, sentences, table
    from simulations.report.storage import write_text_atomically

    console = Console(stderr=as_json)
    epsilons = tuple(sorted(set(epsilon or (1.0, 3.0, 8.0))))
    seeds = tuple(seed or (TUNING if tune else (1, 2, 3)))
    counts = tuple(sorted(set(hospitals or (2, 4, 8))))
    for value in (*epsilons, hospitals_epsilon):
        if not (value > 0 and math.isfinite(value)):
            raise typer.BadParameter("a budget is a positive number", param_hint="--epsilon")
    if not (counts[0] >= 2 and counts[-1] <= max(4, 4 * len(seeds)) and counts[-1] <= 64):
        raise typer.BadParameter(
            "from 2 to four for each --seed, 64 at most", param_hint="--hospitals"
        )
    settings = ModesSettings(
        patients_per_site=patients, unseen_patients=unseen, seeds=seeds, epsilons=epsilons,
        hospitals=counts, hospitals_epsilon=hospitals_epsilon, repeats=repeats, workers=workers,
    )  # fmt: skip
    if tune:
        _tune(settings, out, console)
        return
    study = run_study(settings, out, console)
    write_text_atomically(out / "modes.json", study.model_dump_json(indent=1) + "\n")
    tables = (table(study), table(study, by_hospitals=True), gains(study), sentences(study))
    lines = (line for part in tables for line in (*part, ""))
    write_text_atomically(out / "modes.md", "\n".join(lines) + "\n")
    _draw(modes_picture(study), out / "modes.png")
    if as_json:
        typer.echo(study.model_dump_json())
        return
    for sentence in sentences(study):
        console.print(sentence, highlight=False)
    console.print(f"tables {out / 'modes.md'}, figures {out / 'modes.json'}, {out / 'modes.png'}")


def _draw(figure: object, path: Path) -> None:
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    figure.savefig(path, dpi=150)


def _tune(settings: object, out: Path, console: Console) -> None:
    from simulations.experiments.seed_cohort import load_seed_cohort
    from simulations.modes_study.settings import ModesSettings
    from simulations.modes_study.tables import tried, tried_line
    from simulations.modes_study.tuning import Tuning, tune
    from simulations.report.storage import write_text_atomically

    assert isinstance(settings, ModesSettings)
    cohorts = [load_seed_cohort(settings.demo(seed), out, console.print) for seed in settings.seeds]
    default = settings.model_copy(update={"seeds": ModesSettings().seeds})
    command = f"{default.command_line} --tune"
    found = []
    for one in tune(settings, cohorts, out / "modes"):
        found.append(one)
        console.print(tried_line(one), highlight=False)
    record = Tuning(
        command=command, seeds=settings.seeds, repeats=settings.repeats, tried=tuple(found)
    )
    write_text_atomically(out / "modes_tuning.json", record.model_dump_json(indent=1) + "\n")
    write_text_atomically(out / "modes_tuning.md", "\n".join(tried(record)) + "\n")
