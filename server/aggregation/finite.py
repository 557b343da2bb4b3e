"""New parameters are finite, or the round does not count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError


def require_finite(name: str, values: npt.NDArray[np.float32]) -> None:
    """Raise SMR-E521 when a new global parameter holds NaN or infinity."""
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise SmrfedError(
            "SMR-E521",
            f"the new global parameter {name!r} is not finite",
            expected="finite float32 values",
            found=f"{bad} values that are not",
            remedy="lower training.server_learning_rate or training.learning_rate in a "
            "new plan; the checkpoint before this round is intact",
        )
