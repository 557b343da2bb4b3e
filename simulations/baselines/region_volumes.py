"""Age, sex and region volumes: the classical reading of an anatomical scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared_model.errors import SmrfedError
from simulations.baselines.logistic import FittedLogistic, demographic_features, fit_logistic
from simulations.baselines.subject_table import Floats, SubjectTable

# Regions that the literature names for Alzheimer's disease, chosen before any data was seen. All
# regions of an atlas overfit below about 200 patients and are the weaker reference.
SIGNATURE = (
    "hippocampus",
    "entorhinal",
    "amygdala",
    "parahippocampal",
    "fusiform",
    "temporal_middle",
    "temporal_inferior",
    "cingulate_posterior",
    "precuneus",
    "lateral_ventricle",
    "inferior_lateral_ventricle",
    "third_ventricle",
)


@dataclass(frozen=True)
class RegionVolumes:
    """L2 logistic regression on log(V / ICV), age and sex, standardised on the training set.

    Attributes:
        signature: beginnings of region names; empty uses all regions.
        c: inverse penalty, fixed before any data was seen.
    """

    signature: tuple[str, ...] = SIGNATURE
    c: float = 0.1

    def fit(self, train: SubjectTable) -> FittedLogistic:
        """Fit on these patients.

        Raises:
            SmrfedError: SMR-E692 with fewer than two classes; SMR-E693 where a part of the
                signature names no region of the table.
        """
        chosen = self.columns(train.regions)
        regions = train.regions

        def features(table: SubjectTable) -> Floats:
            if table.regions != regions:
                raise _unknown_regions("the regions of the test table are not those of training")
            ratio = np.log(table.volumes_ml[:, chosen] / table.icv_ml[:, None])
            return np.concatenate([demographic_features(table), ratio], axis=1)

        return fit_logistic(train, features, self.c)

    def columns(self, regions: Sequence[str]) -> tuple[int, ...]:
        """Positions of the regions that the signature names."""
        if not self.signature:
            return tuple(range(len(regions)))
        unmatched = [s for s in self.signature if not any(r.startswith(s) for r in regions)]
        if unmatched:
            raise _unknown_regions(f"no region begins with {', '.join(unmatched)}")
        return tuple(i for i, region in enumerate(regions) if region.startswith(self.signature))


def _unknown_regions(found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E693",
        "the region volumes do not belong to the atlas that the baseline was made for",
        found=found,
        expected="one atlas for training, test and signature",
        remedy="use a signature of this atlas's names, or an empty one for all regions",
    )
