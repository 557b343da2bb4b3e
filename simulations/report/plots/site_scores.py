"""Balanced accuracy with its interval for every arm, hospital by hospital."""

from __future__ import annotations

from matplotlib.figure import Figure

from simulations.report.groups import shown_groups
from simulations.report.plots.style import arm_looks, chance_line, new_figure
from simulations.report.results import FederationReport


def site_scores(report: FederationReport) -> Figure | None:
    """Dots with 95 % intervals; None where no arm has a score."""
    arms = [arm for arm in report.arms if arm.role not in ("prior", "shuffled") and arm.scores]
    groups = [g for g in shown_groups(report) if any(g.key in arm.scores for arm in arms)]
    if not groups:
        return None
    looks = arm_looks(report)
    pitch = 0.15 * len(arms) + 0.25
    figure = new_figure(8.6, 1.2 + pitch * len(groups))
    axes = figure.subplots()
    offsets = [
        (index - (len(arms) - 1) / 2) * 0.72 / max(len(arms), 2) for index in range(len(arms))
    ]
    for arm, offset in zip(arms, offsets, strict=True):
        rows = [
            (y + offset, arm.scores[g.key]) for y, g in enumerate(groups) if g.key in arm.scores
        ]
        look = looks[arm.key]
        axes.hlines(
            [y for y, _ in rows],
            [100 * s.low for _, s in rows],
            [100 * s.high for _, s in rows],
            color=look.colour,
            linewidth=2.4 if arm.key == report.headline_arm else 1.3,
            alpha=1 if arm.key == report.headline_arm else 0.6,
        )
        axes.plot(
            [100 * s.balanced_accuracy for _, s in rows],
            [y for y, _ in rows],
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markersize=8 if arm.key == report.headline_arm else 6.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=arm.title,
        )
    for y in range(0, len(groups), 2):
        axes.axhspan(y - 0.5, y + 0.5, color="#f5f6f8", zorder=0)
    axes.set_yticks(range(len(groups)), [group.title for group in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("balanced accuracy, % (dot), with 95 % interval (line)")
    axes.grid(axis="x")
    chance_line(axes, 100 * report.chance, vertical=True)
    figure.legend(loc="outside lower center", ncols=min(3, len(arms)))
    return figure
