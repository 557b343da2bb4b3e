"""Public initial weights by content digest: the same bytes at every party, or none at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import decode_arrays

PACKAGED = Path(__file__).parent / "weights"


def find_public_weights(sha256: str, folders: tuple[Path, ...] = ()) -> Path:
    """Find the safetensors file with this digest; raises SMR-E105.

    Looks in ``folders``, then ``$SMRFED_WEIGHTS``, then among the files installed with smrfed.
    """
    searched = [*folders]
    if "SMRFED_WEIGHTS" in os.environ:
        searched.append(Path(os.environ["SMRFED_WEIGHTS"]))
    searched.append(PACKAGED)
    for folder in searched:
        for path in sorted(folder.glob("*.safetensors")):
            if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
                return path
    raise SmrfedError(
        "SMR-E105",
        "the plan's public initial weights are not installed here",
        expected=f"a .safetensors file with SHA-256 {sha256}",
        found=f"none in {', '.join(str(folder) for folder in searched)}",
        remedy="get the file from the coordinator and set SMRFED_WEIGHTS to its folder",
    )


def load_public_weights(
    sha256: str, folders: tuple[Path, ...] = ()
) -> dict[str, npt.NDArray[np.float32]]:
    """The public weights by parameter name, float32; raises SMR-E105 or SMR-E115."""
    return decode_arrays(find_public_weights(sha256, folders).read_bytes())
