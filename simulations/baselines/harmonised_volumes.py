"""Region volumes harmonised by federated ComBat before the regression (layer D)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from client.privacy.gaussian_release import release_sum
from shared_model.adaptation.combat import Combat, fit_combat
from shared_model.adaptation.combat_sums import (
    PublicScale,
    SiteSums,
    noise_of_sums,
    patient_vectors,
)
from shared_model.errors import SmrfedError
from shared_model.privacy.secure_random import SeededRandom
from simulations.baselines.logistic import FittedLogistic, demographic_features, fit_logistic
from simulations.baselines.region_volumes import RegionVolumes
from simulations.baselines.subject_table import Floats, SubjectTable

# Public: ages of memory clinics; log V / ICV spreads by about 0.3.
_AGE, _AGE_SD, _SPREAD = 73.0, 8.0, 0.3
_X_RADIUS = 3.0


@dataclass(frozen=True)
class HarmonisedVolumes:
    """:class:`RegionVolumes`, each site's own location taken out of log(V / ICV) first.

    Age, sex and diagnosis are covariates of ComBat, so what they explain stays. Only the location
    is taken out: the scale of a residual would need the diagnosis that is to be predicted. A site
    without training patients is used as it is: ComBat knows nothing of it.

    Attributes:
        volumes: which regions, and the regression's penalty.
        noise_multiplier: of each site's one release of sums; 0: exact.
        centres: ``(F,)`` public log(V / ICV) of the chosen regions; needed with noise.
        seed: of the simulated noise.
    """

    volumes: RegionVolumes = field(default_factory=RegionVolumes)
    noise_multiplier: float = 0.0
    centres: tuple[float, ...] = ()
    seed: int = 0

    def fit(self, train: SubjectTable) -> FittedLogistic:
        """Fit ComBat on every site's sums, and the regression on the pooled, cleaned table.

        Raises:
            SmrfedError: as :class:`RegionVolumes`; SMR-E647 where no two sites can be compared.
        """
        chosen, regions = self.volumes.columns(train.regions), train.regions
        known = self.combat(train)

        def features(table: SubjectTable) -> Floats:
            if table.regions != regions:
                raise _other_regions()
            clean = _log_ratio(table, chosen)
            sites = np.asarray(table.site)
            for site in known.sites:
                rows = sites == site
                clean[rows] = known.without_location(site, clean[rows])
            return np.concatenate([demographic_features(table), clean], axis=1)

        return fit_logistic(train, features, self.volumes.c)

    def combat(self, train: SubjectTable) -> Combat:
        """The model of sites, from one release of sums by each."""
        chosen = self.volumes.columns(train.regions)
        scale = self._scale(len(chosen), len(train.classes))
        y, x, sites = _log_ratio(train, chosen), _covariates(train), np.asarray(train.site)
        sums, ridge = {}, 0.0
        for site in sorted(set(train.site)):
            rows = sites == site
            if self.noise_multiplier > 0:
                total = release_sum(
                    patient_vectors(x[rows], y[rows], scale),
                    self.noise_multiplier,
                    SeededRandom(self.seed, "combat", site),
                )
                sums[site] = SiteSums.of_noised(total, x.shape[1], scale)
            else:
                sums[site] = SiteSums.exact(x[rows], y[rows], scale)
        if self.noise_multiplier > 0:
            ridge = math.sqrt(len(sums)) * float(noise_of_sums(self.noise_multiplier, scale).xx[0])
        return fit_combat(sums, scale, ridge=ridge)

    def _scale(self, features: int, classes: int) -> PublicScale:
        x_centre, x_scale = np.zeros(classes + 1), np.ones(classes + 1)
        x_centre[0], x_scale[0] = _AGE, _AGE_SD
        centre = np.asarray(self.centres) if self.centres else np.zeros(features)
        if not self.noise_multiplier:
            return PublicScale(x_centre, x_scale, centre, np.ones(features))
        # Nearly everybody within: the norm of F normal numbers is about the root of F.
        radius = 1.5 * math.sqrt(features)
        spread = np.full(features, _SPREAD)
        return PublicScale(x_centre, x_scale, centre, spread, _X_RADIUS, radius)


def _log_ratio(table: SubjectTable, chosen: tuple[int, ...]) -> Floats:
    out: Floats = np.log(table.volumes_ml[:, chosen] / table.icv_ml[:, None])
    return out


def _covariates(table: SubjectTable) -> Floats:
    """``(N, C + 1)``: age, female sex, and the diagnosis but for the first class."""
    diagnosis: npt.NDArray[np.bool_] = table.label[:, None] == np.arange(1, len(table.classes))
    return np.concatenate([demographic_features(table), diagnosis.astype(np.float64)], axis=1)


def _other_regions() -> SmrfedError:
    return SmrfedError(
        "SMR-E693",
        "the region volumes do not belong to the atlas that the baseline was made for",
        expected="one atlas for training, test and signature",
        found="the regions of the test table are not those of training",
        remedy="use a signature of this atlas's names, or an empty one for all regions",
    )
