"""Room on the hospital's disk for an answer, looked at before anything is charged for it.

An answer that cannot be stored is not sent. The coordinator asks again, and the round would be
trained and charged again, each time to the same end: a full disk would spend the budget.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from client.egress.policy import Shapes
from shared_model.errors import SmrfedError

# The answer and its copy for the records; the ledger, receipts, site parameters and logs beside.
_COPIES = 3
_BESIDE = 16 << 20


def require_room(state_dir: Path, leaving: Shapes, number_bytes: int = 4) -> None:
    """Raise SMR-E453 where the disk cannot take an answer with arrays of these shapes."""
    size = number_bytes * sum(math.prod(shape) for shape in leaving.values())
    needed = _COPIES * size + _BESIDE
    try:
        free = shutil.disk_usage(state_dir).free
    except OSError:
        return  # whatever is wrong with the folder, writing there will tell
    if free < needed:
        raise SmrfedError(
            "SMR-E453",
            f"too little disk space in {state_dir} to store an answer",
            expected=f"{needed / 1e6:.0f} MB free",
            found=f"{free / 1e6:.0f} MB",
            remedy="free space; nothing was trained and nothing charged, and the coordinator asks "
            "again by itself",
        )
