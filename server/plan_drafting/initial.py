"""The shared parameters that a run begins with: public, and the same for whoever computes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from server.checkpoints.durable import replace_durably
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, decode_arrays, encode_arrays

_NEEDED = ("torch", "monai", "torch_geometric", "nibabel")


def require_torch(what: str) -> None:
    """Raise SMR-E558 where the libraries of the models are missing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SmrfedError(
            "SMR-E558",
            what,
            expected=", ".join(_NEEDED),
            found=f"not installed: {', '.join(missing)}",
            remedy="on any machine where smrfed is installed with the extra train or site: "
            "smrfed-coordinator plan new PLAN --model NAME, and plan initial PLAN FILE; then "
            "here: smrfed-coordinator create PLAN RUN_DIR --initial FILE. Both files are public.",
        )


def initial_parameters(plan: FederationPlan) -> Arrays:
    """The shared group of the plan's model: from its public weights, the rest from its seed.

    The model is built for it, which needs torch. Raises SMR-E558 where it is missing, and what
    building the model raises.
    """
    require_torch(
        "the model's initial parameters are computed with torch, which is not installed here"
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


def class_parameters(plan: FederationPlan) -> frozenset[str]:
    """Shared parameters of the plan's model whose shape follows the number of classes: its head."""
    from shared_model.atlas.select import load_atlas
    from shared_model.plan_model import build_plan_model

    atlas = load_atlas(plan.atlas, plan.input.grid)
    more = plan.task.model_copy(update={"labels": (*plan.task.labels, "one more")})
    shapes, others = (
        {name: tuple(p.shape) for name, p in build_plan_model(each, atlas).named_parameters()}
        for each in (plan, plan.model_copy(update={"task": more}))
    )
    shared = plan.groups.split(shapes)["shared"]
    return frozenset(name for name in shared if shapes[name] != others.get(name))


def taken_over(plan: FederationPlan, initial: Arrays, earlier: Arrays) -> Arrays:
    """Initial parameters with everything but the head from an earlier run of the same model.

    What speaks of classes (:func:`class_parameters`) keeps its initial values, so that the earlier
    run may have predicted another disease. Released parameters cost no privacy again.

    Raises:
        SmrfedError: SMR-E751 where the earlier parameters are not of this model.
    """
    head = class_parameters(plan)
    wrong = [
        name
        for name, value in initial.items()
        if name not in head and (name not in earlier or earlier[name].shape != value.shape)
    ]
    if wrong:
        raise SmrfedError(
            "SMR-E751",
            "the earlier parameters are not of this plan's model",
            expected=f"{len(initial) - len(head)} parameters by name and shape",
            found=f"missing, or of another shape: {', '.join(wrong[:5])}",
            remedy="use the released parameters of a run with the same [model], atlas and grid",
        )
    return {name: value if name in head else earlier[name] for name, value in initial.items()}


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
