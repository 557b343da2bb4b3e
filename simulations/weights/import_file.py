"""Import one model's pretrained weights, with a card that says whose they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from shared_model.atlas.cache import write_atomically
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.protocol.arrays import encode_arrays
from shared_model.registry import build_model
from simulations.weights.convert import convert
from simulations.weights.read_file import read_state_dict

#: Models with a backbone whose weights others publish.
IMPORTABLE = ("resnet50", "resnet50-3d", "multimodal")


class ImportedWeightsCard(BaseModel):
    """What is known of imported weights.

    Attributes:
        sha256: of the safetensors file; a plan names it.
        model, config: whose parameters they are.
        licence, source: as the person who imported them says.
        files: name and SHA-256 of every file that was read.
        parameters: numbers in the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    model: str
    config: dict[str, object]
    licence: str
    source: str
    files: dict[str, str]
    parameters: int


def import_weights(
    files: Sequence[Path],
    model_name: str,
    options: Sequence[str],
    licence: str,
    source: str,
    out: Path,
) -> tuple[Path, ImportedWeightsCard]:
    """Write ``<model>-<digest>.safetensors`` and the card beside it (``.json``).

    Raises SMR-E635 (unreadable), SMR-E636 (another network), SMR-E637 (no such model) and SMR-E602
    (an option).
    """
    if model_name not in IMPORTABLE:
        raise SmrfedError(
            "SMR-E637",
            f"no pretrained weights can be imported for {model_name!r}",
            expected=", ".join(IMPORTABLE),
            found=model_name,
            remedy="name one of these models",
        )
    config = {"seeded": True, **dict(_option(text) for text in options)}
    grid = ModelGrid(spacing_mm=4.0)
    # Neither grid nor atlas decides a parameter of these models.
    labels, nobody = torch.ones(grid.shape, dtype=torch.int64), torch.zeros(1, 1)
    model = build_model(model_name, config, grid, labels, nobody, 3, 0)
    arrays = convert(model, [read_state_dict(path) for path in files])
    body = encode_arrays({name: v.contiguous().numpy() for name, v in arrays.items()})
    digest = hashlib.sha256(body).hexdigest()
    card = ImportedWeightsCard(
        sha256=digest,
        model=model_name,
        config={key: value for key, value in config.items() if key != "seeded"},
        licence=licence,
        source=source,
        files={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        parameters=sum(value.numel() for value in arrays.values()),
    )
    path = out / f"{model_name}-{digest[:12]}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, body)
    write_atomically(path.with_suffix(".json"), (card.model_dump_json(indent=2) + "\n").encode())
    return path, card


def _option(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
