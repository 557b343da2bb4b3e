"""``smrfed-sim audit``: attack the real engine and hold the result against the claimed epsilon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

_PATIENTS, _CANARIES, _EPSILON = 160, 600, 8.0


def audit_command(
    out: Annotated[Path, typer.Option("--out", help="folder for everything that is written")] = (
        Path("runs/audit")
    ),
    patients: Annotated[
        int, typer.Option("--patients", min=24, help="synthetic patients of the audited hospital")
    ] = _PATIENTS,
    canaries: Annotated[
        int, typer.Option("--canaries", min=20, help="gradient canaries in one run")
    ] = _CANARIES,
    epsilon: Annotated[
        float, typer.Option("--epsilon", min=0.05, help="claimed by the audited plan")
    ] = _EPSILON,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="of patients, canaries and coins, not of noise")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print the audit as JSON")] = False,
) -> None:
    """Attack the training engine; exit 1 when it leaks more than it claims (docs/audit.md)."""
    from rich.console import Console

    from simulations.audit.run import AuditSettings, run_audit
    from simulations.audit.summary import print_summary
    from simulations.audit.verdict import stop_if_refuted

    command = "smrfed-sim audit"
    command += f" --patients {patients}" if patients != _PATIENTS else ""
    command += f" --canaries {canaries}" if canaries != _CANARIES else ""
    command += f" --epsilon {epsilon:g}" if epsilon != _EPSILON else ""
    command += f" --seed {seed}" if seed else ""
    console = Console(stderr=as_json)
    settings = AuditSettings(
        patients=patients,
        canaries=canaries,
        epsilon=epsilon,
        seed=seed,
        workers=min(4, os.cpu_count() or 1),
        command=command,
    )
    report = run_audit(settings, out, console)
    print_summary(report, out / "audit.html", console)
    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    stop_if_refuted(report.verdicts)
