"""All figures of the report as data URIs, with the sentence that a screen reader reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from simulations.report.groups import shown_groups
from simulations.report.plots.confusion import confusion_matrix
from simulations.report.plots.epsilon import epsilon_spent
from simulations.report.plots.fusion import fusion_weights
from simulations.report.plots.gains import gains
from simulations.report.plots.learning_curves import learning_curves
from simulations.report.plots.region_importance import region_importance
from simulations.report.plots.region_projection import region_projection
from simulations.report.plots.site_scores import site_scores
from simulations.report.plots.slice_attention import slice_attention
from simulations.report.plots.style import STYLE, svg_data_uri
from simulations.report.results import SEEN, UNSEEN, FederationReport

_POOLED = (SEEN, UNSEEN)


@dataclass(frozen=True)
class Picture:
    """One figure of the page: which section, its alternative text and its data URI."""

    section: str
    alt: str
    uri: str


def pictures(report: FederationReport) -> dict[str, tuple[Picture, ...]]:
    """The figures by section, drawn with one style and without global state."""
    found: dict[str, tuple[Picture, ...]] = {}
    with mpl.rc_context(STYLE):
        for section, alt, figure in _figures(report):
            if figure is not None:
                picture = Picture(section, alt, svg_data_uri(figure))
                found[section] = (*found.get(section, ()), picture)
    return found


def _figures(report: FederationReport) -> Iterator[tuple[str, str, Figure | None]]:
    arm = report.arm(report.headline_arm)
    yield "sites", "Balanced accuracy with interval, every arm and hospital", site_scores(report)
    yield "curves", "Balanced accuracy after every round", learning_curves(report)
    yield "gains", "Gain of every hospital from learning together", gains(report)
    for where, title in _confusion_groups(report):
        figure = confusion_matrix(arm.scores[where], report.labels, title)
        yield "confusion", f"Confusion matrix, {title}", figure
    yield "epsilon", "Epsilon spent and budget of every hospital", epsilon_spent(report)
    told = report.explanations
    if told is None:
        return
    yield "projection", "Region importance on three slices of the template", region_projection(told)
    yield "regions", "The most important regions, ranked", region_importance(told)
    for plane in told.planes:
        yield "slices", f"Attention along {plane.plane} slices", slice_attention(plane)
    yield "fusion", "Weight of each scale in the most important regions", fusion_weights(told)


def _confusion_groups(report: FederationReport) -> list[tuple[str, str]]:
    """The pooled groups, and the hospital with the lowest score of those that took part."""
    scores = report.arm(report.headline_arm).scores
    groups = [(group.key, group.title) for group in shown_groups(report) if group.key in _POOLED]
    seen = [s.name for s in report.cohort if not s.held_out and s.name in scores]
    if len(seen) > 1:
        worst = min(seen, key=lambda name: scores[name].balanced_accuracy)
        groups.append((worst, f"{worst} (lowest)"))
    return [(where, title) for where, title in groups if where in scores]
