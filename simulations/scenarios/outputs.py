"""What a scenario writes: records as lines, figures, tables, predictions and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared_model.evaluation.table import PredictionTable
from shared_model.evaluation.table_file import write_csv, write_text
from simulations.scenarios.beside_files import write_beside
from simulations.scenarios.figures import arm_tables, scenario_results
from simulations.scenarios.jobs import Job
from simulations.scenarios.load import NamedScenario
from simulations.scenarios.page import write_page
from simulations.scenarios.records import Records
from simulations.scenarios.results import ScenarioResults
from simulations.scenarios.tables import columns, csv_text, difference_cells, markdown, row_cells


def write_outputs(
    named: NamedScenario, jobs: Sequence[Job], out: Path, command: str
) -> ScenarioResults:
    """Write ``results.jsonl``, ``results.json``, ``table.md``, ``table.csv``, ``predictions/`` and
    ``scenario.html``, each in one step.
    """
    records = Records(out / "records")
    write_text(out / "results.jsonl", "".join(records.line(job) for job in jobs))
    results = scenario_results(named, jobs, records, command)
    write_text(out / "results.json", results.model_dump_json(indent=1) + "\n")
    write_text(out / "table.md", markdown(results))
    write_text(out / "table.csv", csv_text(results))
    _predictions(named, jobs, records, out / "predictions")
    write_beside(named, jobs, records, out)
    write_page(results, out / "scenario.html")
    return results


def print_results(results: ScenarioResults, out: Path, console: Console) -> None:
    """The two tables on a terminal, and where the files are."""
    table = Table(*columns(results), title=results.title)
    for arm in results.arms:
        table.add_row(*row_cells(results, arm))
    console.print(table)
    if results.differences:
        paired = Table("difference", "where", "balanced accuracy", "p (Holm)", "shown")
        for difference in results.differences:
            paired.add_row(*difference_cells(results, difference))
        console.print(paired)
    for text in results.readings:
        console.print(f"- {text}", highlight=False, markup=False)
    console.print(f"page: {out / 'scenario.html'}", highlight=False)
    console.print(
        f"all figures: smrfed-sim evaluate {out} --synthetic --out {out / 'evaluation'}",
        highlight=False,
        soft_wrap=True,
    )


def _predictions(named: NamedScenario, jobs: Sequence[Job], records: Records, folder: Path) -> None:
    """``ARM.csv`` of every arm over all seeds: the first noise repeat, as ``smrfed-sim evaluate``
    reads it. Where hospitals are left out in turn, everybody as the unseen patient that they were.
    """
    found = {job: record for job in jobs if (record := records.find(job)) is not None}
    for name in named.scenario.arms:
        parts = []
        for seed, repeats in arm_tables(name, named, found).items():
            table = _one_row_each([table for models in repeats[0] for table in models])
            if table is not None:
                parts.append(_named(table, seed))
        if parts:
            write_csv(PredictionTable.join(parts), folder / f"{name}.csv")


def _one_row_each(tables: Sequence[PredictionTable]) -> PredictionTable | None:
    """One prediction per patient; where several models answer for a patient, nobody's."""
    if len(tables) == 1:
        return tables[0]
    homes = [table.rows(table.seen) for table in tables if table.seen.any()]
    names = [patient for home in homes for patient in home.patient]
    if homes and len(set(names)) == len(names):
        return PredictionTable.join(homes)
    abroad = [table.rows(~table.seen) for table in tables if not table.seen.all()]
    names = [patient for part in abroad for patient in part.patient]
    return PredictionTable.join(abroad) if abroad and len(set(names)) == len(names) else None


def _named(table: PredictionTable, seed: int) -> PredictionTable:
    return replace(table, patient=tuple(f"seed{seed}/{patient}" for patient in table.patient))
