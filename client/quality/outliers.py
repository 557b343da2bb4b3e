"""Scans that differ from the rest of their hospital."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from client.quality.catalogue import CATALOGUE, Measured
from client.quality.limits import QualityLimits
from client.quality.scan_measures import ScanMeasures
from client.quality.verdict import Reason, Verdict, judge_scan

# Standard deviations per MAD of a normal distribution.
_MAD = 1.4826


def robust_z(
    values: Mapping[str, float], least_spread: float
) -> tuple[dict[str, float], float, float]:
    """``(x - median) / (1.4826 MAD)`` by key, the median and the spread (Iglewicz, Hoaglin 1993).

    Args:
        values: at least one, by scan.
        least_spread: smallest spread, in parts of the median.
    """
    array = np.array(list(values.values()), dtype=np.float64)
    median = float(np.median(array))
    spread = _MAD * float(np.median(np.abs(array - median)))
    spread = max(spread, least_spread * abs(median), 1e-12)
    return {key: (value - median) / spread for key, value in values.items()}, median, spread


def site_outliers(
    scans: Mapping[str, ScanMeasures], limits: QualityLimits
) -> dict[str, tuple[Reason, ...]]:
    """Notes on scans that lie far out on a measure's bad side, by key; the rest is absent.

    Fewer than ``limits.outlier_least_scans`` scans are not compared.
    """
    found: defaultdict[str, list[Reason]] = defaultdict(list)
    for measured in CATALOGUE:
        if measured.least_spread is None:
            continue
        values = {
            key: value
            for key, measures in scans.items()
            if (value := measured.value(measures)) is not None
        }
        if len(values) < limits.outlier_least_scans:
            continue
        scores, median, spread = robust_z(values, measured.least_spread)
        for key, z in scores.items():
            bad = {"low": -z, "high": z, "both": abs(z)}[measured.bad]
            if bad > limits.outlier_z:
                edge = median + np.sign(z) * limits.outlier_z * spread
                found[key].append(_reason(measured, values[key], z, median, float(edge)))
    return {key: tuple(reasons) for key, reasons in found.items()}


def judge_site(
    scans: Mapping[str, ScanMeasures],
    limits: QualityLimits,
    more: Mapping[str, Iterable[Reason]] | None = None,
) -> dict[str, Verdict]:
    """Verdicts of all scans of a hospital, each by itself and among the others.

    Args:
        scans: measures by any key, e.g. the source's SHA-256.
        limits: the limits.
        more: what pairs of scans gave (duplicates, mirrored sessions), by the same keys.
    """
    alone = {key: judge_scan(measures, limits) for key, measures in scans.items()}
    # What fails by itself must not move the median that the others are held against.
    compared = {key: m for key, m in scans.items() if alone[key].result != "fail"}
    outliers = site_outliers(compared, limits)
    extra = more or {}
    return {
        key: verdict.with_reasons((*outliers.get(key, ()), *extra.get(key, ())))
        for key, verdict in alone.items()
    }


def _reason(measured: Measured, value: float, z: float, median: float, edge: float) -> Reason:
    return Reason(
        id=f"{measured.name.replace('_', '-')}-outlier",
        level="note",
        text=f"{measured.title} {measured.shown(value)} lies apart from this hospital's scans "
        f"(median {measured.shown(median)}, z {z:+.1f}): {measured.hint}.",
        measure=measured.name,
        value=value,
        limit=round(edge, 4),
    )
