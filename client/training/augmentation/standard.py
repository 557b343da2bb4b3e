"""The scale of greys that a scan had, and a view of it gets back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.prepared.intensity import Intensity

_QUARTILES = np.array([0.25, 0.5, 0.75])
# As many as preparation matches to the template.
_QUANTILES = np.linspace(0, 1, 33)

Greys = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Standard:
    """Quantiles of a prepared scan: quartiles for ``zscore``, 33 for ``quantile``.

    A robust z-score is the linear map that brings median and quartile distance to fixed values. A
    view that gets those of its scan is therefore standardised as a new scan would be.
    """

    at: npt.NDArray[np.float64]
    levels: npt.NDArray[np.float64]

    @classmethod
    def of(cls, greys: Greys, intensity: Intensity) -> Standard:
        """Measure ``(V,)`` greys of a scan."""
        at = _QUANTILES if intensity == "quantile" else _QUARTILES
        return cls(at, np.quantile(greys, at).astype(np.float64))

    def restore(self, greys: Greys, measured: Greys) -> Greys:
        """Map ``(V,)`` greys of a view as brings those ``measured`` in it to the scan's quantiles.

        Greys without contrast stay.
        """
        if not measured.size:
            return greys
        found = np.quantile(measured, self.at).astype(np.float64)
        if len(self.at) > len(_QUARTILES):
            rising = np.concatenate([[True], np.diff(found) > 0])
            matched = np.interp(greys, found[rising], self.levels[rising])
            return np.asarray(matched, dtype=np.float32)
        (low, median, high), (lower, middle, upper) = found, self.levels
        slope = (upper - lower) / (high - low) if high > low else 1.0
        return (greys - np.float32(median)) * np.float32(slope) + np.float32(middle)
