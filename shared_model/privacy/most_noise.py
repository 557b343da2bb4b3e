"""The largest noise that a plan may ask for."""

from __future__ import annotations

#: Noise multiplier beyond which the accounting overflows, and nothing is learnt anyway.
MOST_NOISE = 1e6
