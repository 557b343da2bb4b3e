"""Settings of all tests."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# As `make test` sets it: the sums of a step have one order in every process, and a test that
# compares the bits of two processes holds also where pytest is called by itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says more about the machine's other users than about the code.
# The same is true of the time that drawing the first examples takes.
settings.register_profile("smrfed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("smrfed")

# No test takes this number for a generator of its own: their draws would be the same.
_START = 730_211


@pytest.fixture(autouse=True)
def _known_start() -> None:
    """Torch's generator starts alike, whichever tests this process ran before."""
    # Only where it is there already: tests of commands that start without torch run here too.
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(_START)
