"""SCAFFOLD's common control variate in the body of a ``train`` instruction.

Beside the shared parameters: ``control-variate/NAME`` for each of them, and ``counted-round/SITE``
``(1,)`` for every site of which ``c`` holds an update: the round of the newest one. The site goes
on from its own control of just that round, so that an answer that never arrived, or was set aside,
leaves no trace in ``c - mean(c_k)``. The body is signed and known by its digest; it is made from
the checkpoint alone, so a resumed run sends the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays

_CONTROL, _COUNTED = "control-variate/", "counted-round/"


@dataclass(frozen=True)
class CommonControl:
    """The weighted mean of the sites' control variates, and what of each site it holds.

    Attributes:
        values: ``c``, by the name of the shared parameter.
        counted: site -> round of its newest update in ``c``; a site without one is missing.
    """

    values: Arrays
    counted: Mapping[str, int]


def control_shapes(
    plan: FederationPlan, shared: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what an instruction may carry for the plan's aggregation."""
    if not plan.aggregation.control_variates:
        return {}
    counted: dict[str, tuple[int, ...]] = {
        _COUNTED + site.name: (1,) for site in plan.federation.sites
    }
    return counted | {_CONTROL + name: tuple(shape) for name, shape in shared.items()}


def with_control(shared: Arrays, control: CommonControl) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays of one body."""
    out = dict(shared)
    for name, value in control.values.items():
        out[_CONTROL + name] = value
    for site, number in control.counted.items():
        out[_COUNTED + site] = np.array([number], np.float32)  # exact below 2^24
    return out


def without_control(
    arrays: Arrays, plan: FederationPlan, round_number: int
) -> tuple[dict[str, npt.NDArray[np.float32]], CommonControl | None]:
    """The other arrays of a body, and the control that it carries, if any.

    Raises SMR-E345 unless it is one value for every other parameter, finite, of rounds before
    ``round_number`` at sites of the plan. What it says is not trusted beyond that: it shifts local
    steps whose gradients were clipped and noised before.
    """
    rest = {n: v for n, v in arrays.items() if not n.startswith((_CONTROL, _COUNTED))}
    found = {n.removeprefix(_CONTROL): v for n, v in arrays.items() if n.startswith(_CONTROL)}
    counts = {n.removeprefix(_COUNTED): v for n, v in arrays.items() if n.startswith(_COUNTED)}
    if not found and not counts:
        return rest, None
    if not plan.aggregation.control_variates:
        raise _strange("control variates", "none: the plan has none")
    if {n: v.shape for n, v in found.items()} != {n: v.shape for n, v in rest.items()}:
        raise _strange(f"{len(found)} control variates", f"one for each of {len(rest)} parameters")
    if not all(np.isfinite(value).all() for value in found.values()):
        raise _strange("NaN or infinity", "finite control variates")
    members, counted = {site.name for site in plan.federation.sites}, {}
    for site, value in counts.items():
        number = int(value[0]) if value.shape == (1,) and np.isfinite(value).all() else 0
        if site not in members or not 1 <= number < round_number or number != value[0]:
            raise _strange(f"{_COUNTED}{site[:60]}", f"sites of the plan, rounds < {round_number}")
        counted[site] = number
    return rest, CommonControl(found, counted)


def require_control_norm(control: CommonControl, bound: float) -> None:
    """Raise SMR-E345 when the common control is longer than ``bound``."""
    squares = (np.square(value, dtype=np.float64).sum() for value in control.values.values())
    norm = math.sqrt(sum(map(float, squares)))
    if norm > bound:
        raise _strange(f"a control variate of norm {norm:.4g}", f"at most {bound:.4g}")


def _strange(found: str, expected: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E345",
        "the instruction carries control variates that the plan does not announce there",
        expected=expected,
        found=found,
        remedy="check that coordinator and site run the same plan and smrfed version",
    )
