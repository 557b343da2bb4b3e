"""Wheelhouses made by ``deploy/wheelhouse/build.py``, as an operator makes them.

``SMRFED_WHEELHOUSES=FOLDER`` keeps them between runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).parents[2] / "deploy" / "wheelhouse" / "build.py"


def wheelhouse(party: str, folder: Path) -> Path:
    """The wheelhouse of a party, new in ``folder`` unless one is kept."""
    house = Path(os.environ.get("SMRFED_WHEELHOUSES") or folder) / party
    if not house.exists():
        done = subprocess.run(
            [sys.executable, str(BUILD), party, str(house)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
    return house
