"""Public weights as a file that a plan can name, with a card that says where they come from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared_model.atlas.cache import write_atomically
from shared_model.protocol.arrays import encode_arrays
from shared_model.smrnet.model import SMRNet
from simulations.demo.settings import WeightsCard

_PARTS = ("encoder.", "standardiser.")
_RESIDUAL = (".site_scale", ".site_shift")


def public_arrays(model: SMRNet) -> dict[str, npt.NDArray[np.float32]]:
    """Encoder and standardiser by name, float32, without site residuals.

    Raises ValueError where a residual of the encoder is not zero: the file would then hold another
    function than the one that was trained.
    """
    out = {}
    for name, parameter in model.named_parameters():
        if name.startswith(_PARTS):
            value = parameter.detach().cpu().numpy().astype(np.float32)
            if not name.endswith(_RESIDUAL):
                out[name] = value
            elif value.any():
                raise ValueError(f"{name} is not zero: fold_site_residual first")
    return out


def write_weights(
    model: SMRNet, path: Path, *, atlas_sha256: str, trained_on: str, command: str
) -> WeightsCard:
    """Write ``path`` (safetensors) and the card beside it (``.json``); each is whole or absent."""
    body = encode_arrays(public_arrays(model))
    config = {"width": model.config.width}
    if model.config.normative_features is not None:
        config["normative_features"] = model.config.normative_features
    card = WeightsCard(
        sha256=hashlib.sha256(body).hexdigest(),
        atlas_sha256=atlas_sha256,
        model="smrnet",
        config=config,
        trained_on=trained_on,
        command=command,
    )
    write_atomically(path, body)
    write_atomically(path.with_suffix(".json"), (card.model_dump_json(indent=2) + "\n").encode())
    return card
