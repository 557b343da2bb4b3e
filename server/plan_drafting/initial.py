"""The shared parameters that a run begins with: public, and the same for whoever computes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from server.checkpoints.durable import replace_durably
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, decode_arrays, encode_arrays

_NEEDED = ("torch", "monai", "torch_geometric", "nibabel")


def initial_parameters(plan: FederationPlan) -> Arrays:
    """The shared group of the plan's model: from its public weights, the rest from its seed.

    The model is built for it, which needs torch. Raises SMR-E558 where it is missing, and what
    building the model raises.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SmrfedError(
            "SMR-E558",
            "the model's initial parameters are computed with torch, which is not installed here",
            expected=", ".join(_NEEDED),
            found=f"not installed: {', '.join(missing)}",
            remedy="on any machine where smrfed is installed with the extra train or site: "
            "smrfed-coordinator plan initial PLAN FILE; then here: "
            "smrfed-coordinator create PLAN RUN_DIR --initial FILE. The file is public.",
        )
    # Here, because the coordinator's other commands work without torch.
    from shared_model.atlas.select import load_atlas
    from shared_model.plan_model import build_plan_model

    model = build_plan_model(plan, load_atlas(plan.atlas, plan.input.grid))
    parameters = dict(model.named_parameters())
    return {
        name: parameters[name].detach().numpy().copy()
        for name in plan.groups.split(parameters)["shared"]
    }


def read_parameters(path: Path) -> Arrays:
    """Arrays of a safetensors file; raises SMR-E541 (unreadable) and SMR-E115."""
    try:
        return decode_arrays(path.read_bytes())
    except OSError as error:
        raise unusable(path, error) from None


def write_parameters(path: Path, arrays: Arrays) -> None:
    """Write arrays as safetensors; raises SMR-E541."""
    try:
        replace_durably(path, encode_arrays(arrays))
    except OSError as error:
        raise unusable(path, error) from None


def unusable(path: Path, error: OSError) -> SmrfedError:
    """SMR-E541: a file cannot be read or written."""
    return SmrfedError(
        "SMR-E541",
        f"cannot use the file {path}",
        found=error,
        remedy="check the path, free space and permissions",
    )
