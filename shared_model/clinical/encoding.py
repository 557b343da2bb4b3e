"""From clinical values to the numbers that a model sees; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared_model.clinical.section import ClinicalSection, ClinicalVariable

#: A value of a scan: a number, a word, or nothing.
Value = float | str | None


def encode_clinical(
    section: ClinicalSection, values: Mapping[str, Value]
) -> npt.NDArray[np.float32]:
    """``(K,)`` of one scan; what ``values`` does not hold is missing.

    Raises ValueError where a variable of kind number is given a word, or is not finite.
    """
    parts = [_encode(variable, values.get(variable.name)) for variable in section.used]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def encoded_names(section: ClinicalSection) -> tuple[str, ...]:
    """What each of the K numbers is, such as ``sex=F`` or ``age missing``."""
    out = []
    for variable in section.used:
        if variable.kind == "number":
            out.append(variable.name)
        else:
            out += [f"{variable.name}={word}" for word in (*variable.categories, "other")]
        out.append(f"{variable.name} missing")
    return tuple(out)


def _encode(variable: ClinicalVariable, value: Value) -> npt.NDArray[np.float32]:
    out = np.zeros(variable.width, np.float32)
    if value is None:
        out[-1] = 1
    elif variable.kind == "number":
        if isinstance(value, str) or not math.isfinite(value):
            raise ValueError(f"{variable.name} is {value!r}, not a number")
        out[0] = (value - variable.mean) / variable.sd
    else:
        words = [word.strip().casefold() for word in variable.categories]
        word = str(value).strip().casefold()
        # A word that the plan does not know counts as "other": it is there, and is none of them.
        out[words.index(word) if word in words else -2] = 1
    return out
