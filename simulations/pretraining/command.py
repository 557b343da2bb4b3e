"""``smrfed-sim pretrain``: public anatomy, encoder, read-out, and weights with their card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

_SUBJECTS, _EPOCHS, _WIDTH = 320, 9, 8


def pretrain_command(
    out: Annotated[Path, typer.Option("--out", help="folder for everything that is written")] = (
        Path("runs/pretrain")
    ),
    subjects: Annotated[
        int, typer.Option("--subjects", min=4, help="public synthetic subjects")
    ] = _SUBJECTS,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="looks at every subject")
    ] = _EPOCHS,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="of initial weights, batches and scanners")
    ] = 0,
    width: Annotated[
        int, typer.Option("--width", min=2, help="channels of the encoder, an even number")
    ] = _WIDTH,
) -> None:
    """Train the public encoder on synthetic anatomy; no diagnosis is used (docs/pretraining.md)."""
    from rich.console import Console

    from simulations.pretraining.public_run import PublicRun, run_pretraining

    command = "smrfed-sim pretrain"
    command += f" --subjects {subjects}" if subjects != _SUBJECTS else ""
    command += f" --epochs {epochs}" if epochs != _EPOCHS else ""
    command += f" --seed {seed}" if seed else ""
    command += f" --width {width}" if width != _WIDTH else ""
    run = PublicRun(
        subjects=subjects,
        epochs=epochs,
        seed=seed,
        width=width,
        workers=min(4, os.cpu_count() or 1),
        command=command,
    )
    path = run_pretraining(run, out, Console(stderr=True))
    typer.echo(path)
    typer.echo(path.with_suffix(".json").read_text(encoding="utf-8"), nl=False)
