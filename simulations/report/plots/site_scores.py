"""Balanced accuracy with its interval for every arm, hospital by hospital."""

from __future__ import annotations

from matplotlib.figure import Figure

from simulations.report.plots.style import MARKERS, PALETTE, chance_line, new_figure
from simulations.report.results import SEEN, UNSEEN, FederationReport

_TITLES = {SEEN: "all that took part", UNSEEN: "all unseen"}


def site_scores(report: FederationReport) -> Figure | None:
    """Dots with 95 % intervals; None where no arm has a score."""
    arms = [arm for arm in report.arms if arm.role not in ("prior", "shuffled") and arm.scores]
    groups = [g for g in report.groups if any(g in arm.scores for arm in arms)]
    if not groups:
        return None
    held_out = {site.name for site in report.cohort if site.held_out}
    pitch = 0.15 * len(arms) + 0.25
    figure = new_figure(8.6, 1.2 + pitch * len(groups))
    axes = figure.subplots()
    offsets = [(index - (len(arms) - 1) / 2) * 0.72 / max(len(arms), 2) for index in range(len(arms))]
    for index, (arm, offset) in enumerate(zip(arms, offsets, strict=True)):
        rows = [(y + offset, arm.scores[g]) for y, g in enumerate(groups) if g in arm.scores]
        colour = PALETTE[index % len(PALETTE)]
        axes.hlines(
            [y for y, _ in rows],
            [100 * s.low for _, s in rows],
            [100 * s.high for _, s in rows],
            color=colour,
            linewidth=2.4 if arm.key == report.headline_arm else 1.4,
        )
        axes.plot(
            [100 * s.balanced_accuracy for _, s in rows],
            [y for y, _ in rows],
            linestyle="none",
            marker=MARKERS[index % len(MARKERS)],
            color=colour,
            markersize=6.5 if arm.key == report.headline_arm else 5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=arm.title,
        )
    for y in range(0, len(groups), 2):
        axes.axhspan(y - 0.5, y + 0.5, color="#f5f6f8", zorder=0)
    axes.set_yticks(
        range(len(groups)),
        [_TITLES.get(g, f"{g} (unseen)" if g in held_out else g) for g in groups],
    )
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("balanced accuracy, % (dot), with 95 % interval (line)")
    axes.grid(axis="x")
    chance_line(axes, 100 * report.chance, vertical=True)
    figure.legend(loc="outside lower center", ncols=min(3, len(arms)))
    return figure
