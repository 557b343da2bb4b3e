"""Do embeddings betray the hospital? The class-conditional probe of every arm that has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from shared_model.errors import SmrfedError
from shared_model.evaluation.beyond import ProbedClass, SiteProbeFigures
from shared_model.evaluation.estimate import Estimate
from shared_model.evaluation.side_tables import Embeddings
from shared_model.metrics.site_probe import SiteProbe, site_probe

#: Patients of a class that a hospital needs to take part; of real patients twice as many.
FEWEST, FEWEST_REAL = 10, 20


def site_probes(
    embeddings: Mapping[str, Embeddings],
    labels: Sequence[str],
    draws: int,
    seed: int,
    *,
    open_data: bool,
) -> tuple[SiteProbeFigures, ...]:
    """The probe of every arm and model; a class with too few patients at a hospital is left out.

    ``within`` fits a probe inside each class; ``pooled`` fits one over everybody after the mean of
    a class over all hospitals was taken off, and so learns from more patients.
    Raises SMR-E629 for patients of a class that is not among ``labels``.
    """
    out = []
    for arm, table in embeddings.items():
        for model in dict.fromkeys(table.model):
            rows = np.array([name == model for name in table.model])
            out.append(_probed(arm, model, table, rows, labels, draws, seed, open_data))
    return tuple(out)


def _probed(
    arm: str,
    model: str,
    table: Embeddings,
    rows: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    labels: Sequence[str],
    draws: int,
    seed: int,
    open_data: bool,
) -> SiteProbeFigures:
    fewest = FEWEST if open_data else FEWEST_REAL
    z = table.z[rows]
    site = np.array(table.site)[rows]
    place = {label: index for index, label in enumerate(labels)}
    strangers = set(table.label) - set(place)
    if strangers:
        raise SmrfedError(
            "SMR-E629",
            f"the embeddings of {arm!r} are of patients with other classes",
            expected=", ".join(labels),
            found=", ".join(sorted(strangers)),
            remedy="give the files that one command wrote",
        )
    y = np.array([place[label] for label in np.array(table.label)[rows]], dtype=np.int64)
    # A hospital with too few of some class would lend its size to the pooled probe.
    cells = {(s, c): int(((site == s) & (y == c)).sum()) for s in set(site) for c in set(y)}
    whole = np.array([min(cells[s, c] for c in set(y)) >= fewest for s in site])
    within = site_probe(z, site, y, minimum=fewest, draws=draws, seed=seed)
    pooled = None
    if len(set(site[whole])) > 1:
        kept, of = z[whole], y[whole]
        rest = kept - np.stack([kept[of == c].mean(0) for c in of])
        pooled = site_probe(
            rest, site[whole], np.zeros(len(of)), minimum=fewest, draws=draws, seed=seed
        )
    return SiteProbeFigures(
        arm=arm,
        model=model,
        patients=int(rows.sum()),
        trained_on=int(table.trained[rows].sum()),
        sites=len(set(site)),
        within=_estimate(within),
        within_chance=_known(within.chance),
        pooled=_estimate(pooled),
        pooled_chance=None if pooled is None else _known(pooled.chance),
        by_class=tuple(
            ProbedClass(
                label=labels[one.label],
                sites=one.sites,
                patients=one.patients,
                accuracy=one.accuracy,
            )
            for one in within.by_class
        ),
    )


def _estimate(probe: SiteProbe | None) -> Estimate:
    if probe is None:
        return Estimate(value=None)
    return Estimate.of(probe.accuracy, probe.low, probe.high)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
