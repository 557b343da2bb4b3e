"""``smrfed-sim weights import``: a local pretrained file becomes public weights with a card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

weights_app = typer.Typer(
    help="Public weights of others, from local files.", no_args_is_help=True, add_completion=False
)


@weights_app.callback()
def _root() -> None:
    """Public weights of others, from local files."""


@weights_app.command("import")
def import_command(
    files: Annotated[
        list[Path],
        typer.Argument(help="a state dict (.pth) or safetensors; for multimodal one per backbone"),
    ],
    model: Annotated[str, typer.Option("--model", help="resnet50, resnet50-3d or multimodal")],
    licence: Annotated[str, typer.Option("--licence", help="under which the weights may be used")],
    source: Annotated[str, typer.Option("--source", help="where the file comes from")],
    out: Annotated[Path, typer.Option("--out", help="folder for weights and card")] = Path(
        "weights"
    ),
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="of the model, as NAME=JSON, like the plan will have it"),
    ] = None,
) -> None:
    """Check every name and shape, write safetensors and a card; nothing is downloaded."""
    from simulations.weights.import_file import import_weights

    path, card = import_weights(files, model, option or [], licence, source, out)
    typer.echo(path)
    typer.echo(card.model_dump_json(indent=2))
    typer.echo(f'in the plan:\n[model]\nweights_sha256 = "{card.sha256}"')
