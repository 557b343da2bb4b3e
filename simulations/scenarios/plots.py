"""The forest plot of a scenario: every arm at seen, worst and unseen hospitals."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.report.plots.style import BLUE, GREEN, GREY, ORANGE, chance_line, new_figure
from simulations.scenarios.results import ArmFigures, ScenarioResults
from simulations.scenarios.schema import ArmKind
from simulations.scenarios.tables import GROUPS, shown_groups

_COLOURS: dict[ArmKind, str] = {"federated": BLUE, "alone": ORANGE, "pooled": GREEN}


def forest(results: ScenarioResults) -> Figure:
    """Balanced accuracy with 95 % intervals; small dots are single cohorts; hollow is private."""
    groups = shown_groups(results)
    arms = results.arms
    figure = new_figure(2.6 + 2.5 * len(groups), 1.1 + 0.33 * len(arms))
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        chance_line(axes, 1 / len(results.labels), vertical=True, label=axes is panels[0])
        for y, arm in enumerate(arms):
            _row(axes, y, arm, group)
        axes.set_title(GROUPS[group], pad=14)
        axes.set_xlabel("balanced accuracy")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(arms)), [arm.title for arm in arms])
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _row(axes: Axes, y: int, arm: ArmFigures, group: str) -> None:
    found = arm.groups.get(group)
    estimate = None if found is None else found.balanced_accuracy
    if found is None or estimate is None or estimate.value is None:
        return
    colour = _COLOURS.get(arm.kind, GREY)
    if group in ("seen", "unseen"):
        single = [seed for seed in found.by_seed if seed is not None]
        axes.plot(single, [y + 0.27] * len(single), ".", ms=3, color=colour, alpha=0.5)
    if estimate.low is not None and estimate.high is not None:
        axes.hlines(y, estimate.low, estimate.high, color=colour, linewidth=2)
    axes.plot(
        estimate.value,
        y,
        marker="o",
        markersize=7,
        color=colour,
        markerfacecolor="white" if arm.epsilon is not None else colour,
        markeredgewidth=1.6,
    )
