"""A local weights file as named arrays, without ever running what is in it."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from shared_model.errors import SmrfedError

# Med3D saved its networks from several GPUs.
_PREFIX = "module."
#: Under which a checkpoint keeps the parameters, beside epoch and optimiser.
_INSIDE = ("state_dict", "model")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name, without the prefix ``module.``; counters of batches are left out.

    Raises SMR-E635 for a missing file, a pickle that needs code, and what holds no tensors.
    """
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise _unsafe(path, str(error).splitlines()[0][:200]) from None
    for key in _INSIDE:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise _unsafe(path, f"{type(found).__name__} that is no mapping of names to tensors")
    return {
        name.removeprefix(_PREFIX): value
        for name, value in found.items()
        if not name.endswith("num_batches_tracked")
    }


def _unsafe(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E635",
        f"{path} is no weights file that can be read safely",
        expected="safetensors, or a PyTorch file of tensors alone (weights_only)",
        found=found,
        remedy="get a plain state dict; a pickle that needs code is never opened",
    )
