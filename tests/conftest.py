"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says more about the machine's other users than about the code.
settings.register_profile("smrfed", deadline=None)
settings.load_profile("smrfed")
