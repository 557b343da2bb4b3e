"""``smrfed-sim conversion``: who with MCI converts, from one scan and from two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from shared_model.atlas.cache import write_atomically

if TYPE_CHECKING:
    from simulations.conversion.study import Conversion


def conversion_command(
    out: Annotated[Path, typer.Option("--out", help="folder for scans and tokens")] = Path(
        "runs/conversion"
    ),
    record: Annotated[Path, typer.Option("--record", help="JSON file of the figures")] = Path(
        "docs/conversion.json"
    ),
    figure: Annotated[Path, typer.Option("--figure", help="PNG of the curves")] = Path(
        "docs/images/conversion.png"
    ),
    patients: Annotated[int, typer.Option("--patients", min=20, help="with MCI")] = 120,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of patients and folds")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1)] = 2,
) -> None:
    """Conversion of MCI within 36 months from one scan and from two (docs/longitudinal.md)."""
    from simulations.conversion.page import conversion_text
    from simulations.conversion.plots import draw_conversion
    from simulations.conversion.study import run_conversion
    from simulations.few_labels.page import renew

    console = Console()
    with console.status("") as status:
        result = run_conversion(out, patients, seed, workers, status.update)
    write_atomically(record, (result.model_dump_json(indent=1) + "\n").encode())
    draw_conversion(result, figure)
    renew(Path("docs/longitudinal.md"), "conversion", conversion_text(result))
    console.print(conversion_table(result))


def conversion_table(result: Conversion) -> Table:
    """One row per arm."""
    title = f"{result.progressive} converted, {result.stable} stable, {result.unknown} unknown"
    table = Table("risk by", "AUC", "free at 24 months, high", "low", "log-rank p", title=title)
    for risk in result.risks:
        table.add_row(
            risk.arm,
            str(risk.auc),
            f"{risk.high_risk_free_at_24_months:.2f}",
            f"{risk.low_risk_free_at_24_months:.2f}",
            f"{risk.log_rank_p:.2g}",
        )
    table.add_section()
    table.add_row("volumes: change adds", str(result.change_minus_latest_volumes))
    table.add_row("SMR-Net: change adds", str(result.change_minus_latest_smrnet))
    return table
