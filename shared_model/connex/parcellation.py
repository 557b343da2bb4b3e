"""Which regions the rows of a connectome are; no torch: hospitals check files with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

#: Regions of the largest parcellation that is read; matrices grow with the square.
MOST_REGIONS = 512


def parcellation_sha256(names: Sequence[str]) -> str:
    """Digest of the region names in their order: other regions, or another order, another digest.

    Of the names and not of a file, whose line ends and further columns may differ.
    """
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
