"""Education, APOE e4 alleles and MMSE of synthetic patients, with some of them missing.

The rule, with s the latent severity (about 0.1 in CN, 0.4 in MCI, 0.8 in AD)::

    education  years  round(N(15.5, 3)) within 6 to 20; independent of the disease
    apoe4      0..2   Binomial(2, 0.14 + 0.30 s), s within 0 to 1; fixed in a patient
    mmse       0..30  round(29.5 - 9 s + 0.15 (education - 15.5) + N(0, 1.5)), at each scan

So MMSE tells the diagnosis better than any scan does, as it does in clinics, because both follow
from s; APOE says a little; education says something only together with MMSE. Missing at random: 5 %
of people without education, 15 % without APOE, 5 % without any MMSE. The numbers are made up so
that means are near those of published cohorts; they are no estimate of anything.

Drawn from a stream of its own: no voxel and no label of a cohort depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulations.cohort.subject import Subject

_MISSING = "n/a"
_MISSING_SHARE = {"education": 0.05, "apoe4": 0.15, "mmse": 0.05}


@dataclass(frozen=True)
class ClinicalFacts:
    """Cells of the tables: whole numbers, or ``n/a``.

    Attributes:
        education: years.
        apoe4: alleles.
        mmse: points, one for each scan.
    """

    education: str
    apoe4: str
    mmse: tuple[str, ...]


def clinical_of(subject: Subject) -> ClinicalFacts:
    """The same for the same patient, however many others there are."""
    rng = subject.rng("clinical")
    education = float(np.clip(np.rint(rng.normal(15.5, 3)), 6, 20))
    risk = 0.14 + 0.30 * float(np.clip(subject.visits[0].severity, 0, 1))
    alleles = int(rng.binomial(2, risk))
    hidden = {name: rng.random() < share for name, share in _MISSING_SHARE.items()}
    scores = []
    for visit in subject.visits:
        mean = 29.5 - 9 * visit.severity + 0.15 * (education - 15.5)
        scores.append(str(int(np.clip(np.rint(mean + rng.normal(0, 1.5)), 0, 30))))
    return ClinicalFacts(
        _MISSING if hidden["education"] else f"{education:.0f}",
        _MISSING if hidden["apoe4"] else str(alleles),
        tuple(_MISSING if hidden["mmse"] else score for score in scores),
    )
