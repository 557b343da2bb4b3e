"""``smrfed-sim cross-disease`` and ``smrfed-sim label-curve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from shared_model.atlas.cache import write_atomically

if TYPE_CHECKING:
    from simulations.few_labels.cross_disease import CrossDisease
    from simulations.few_labels.label_curve import LabelCurve

_PAGE = Path("docs/few_labels.md")
_Out = Annotated[Path, typer.Option("--out", help="folder for people and tokens")]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="of people, labels and training")]
_Workers = Annotated[int, typer.Option("--workers", min=1)]


def cross_disease_command(
    out: _Out = Path("runs/diseases"),
    record: Annotated[Path, typer.Option("--record", help="JSON file of the figures")] = Path(
        "docs/cross_disease.json"
    ),
    seed: _Seed = 0,
    workers: _Workers = 2,
) -> None:
    """Train for AD-, PD-, FTD-like disease and stroke, test each on all; transfer to PD."""
    from simulations.few_labels.cross_disease import run_cross_disease
    from simulations.few_labels.page import cross_disease_text, renew

    console = Console()
    with console.status("") as status:
        result = run_cross_disease(out, seed, workers, status.update)
    write_atomically(record, (result.model_dump_json(indent=1) + "\n").encode())
    renew(_PAGE, "cross-disease", cross_disease_text(result))
    for table in cross_disease_tables(result):
        console.print(table)


def label_curve_command(
    out: _Out = Path("runs/diseases"),
    record: Annotated[Path, typer.Option("--record", help="JSON file of the figures")] = Path(
        "docs/label_curve.json"
    ),
    figure: Annotated[Path, typer.Option("--figure", help="PNG of the curves")] = Path(
        "docs/images/label_curve.png"
    ),
    seed: _Seed = 0,
    workers: _Workers = 2,
) -> None:
    """Learning curves at 10, 25, 50 and 100 % of the labels: scratch, public, self-supervised."""
    from simulations.few_labels.label_curve import run_label_curve
    from simulations.few_labels.page import label_curve_text, renew
    from simulations.few_labels.plots import draw_label_curve

    console = Console()
    with console.status("") as status:
        result = run_label_curve(out, seed, workers, status.update)
    write_atomically(record, (result.model_dump_json(indent=1) + "\n").encode())
    draw_label_curve(result, figure)
    renew(_PAGE, "label-curve", label_curve_text(result))
    console.print(label_curve_table(result))


def cross_disease_tables(result: CrossDisease) -> list[Table]:
    """The matrix, and the transfer."""
    tests = list(dict.fromkeys(cell.test for cell in result.cells))
    matrix = Table("trained on", *(f"patients with {name}" for name in tests))
    for source in tests:
        cells = {cell.test: str(cell.auc) for cell in result.cells if cell.train == source}
        matrix.add_row(source, *(cells[name] for name in tests))
    matrix.add_row("true volumes, at home", *(str(result.volumes[name]) for name in tests))
    transfer = Table("labels", "from", "own start", "taken over", "difference")
    for row in result.transfer:
        transfer.add_row(
            str(row.labels), row.source, str(row.own), str(row.taken_over), str(row.difference)
        )
    return [matrix, transfer]


def label_curve_table(result: LabelCurve) -> Table:
    """One row per arm, one column per share of the labels; then the differences."""
    shares = list(dict.fromkeys(point.share for point in result.points))
    table = Table("arm", *(f"{share:.0%}" for share in shares))
    for arm in dict.fromkeys(point.arm for point in result.points):
        values = {p.share: str(p.balanced_accuracy) for p in result.points if p.arm == arm}
        table.add_row(arm, *(values[share] for share in shares))
    table.add_section()
    for pair in dict.fromkeys((d.arm, d.reference) for d in result.differences):
        found = {d.share: d.difference for d in result.differences if (d.arm, d.reference) == pair}
        table.add_row(f"{pair[0]} - {pair[1]}", *(str(found[share]) for share in shares))
    return table
