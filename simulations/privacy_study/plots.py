"""Utility against epsilon, and the signal-to-noise figure of every budget."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shared_model.privacy.signal_to_noise import COMFORTABLE, RANDOM_WALK
from simulations.privacy_study.predicted import WHERE, Metric
from simulations.privacy_study.results import PrivacyStudy, Utility
from simulations.report.plots.style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    chance_line,
    new_figure,
)

TITLES = {"seen": "Hospitals that trained", "unseen": "Hospital that nobody trained on"}
METRIC_TITLES: dict[Metric, str] = {
    "balanced_accuracy": "balanced accuracy", "macro_auc": "macro AUC",
}  # fmt: skip
_CHANCE: dict[Metric, float] = {"balanced_accuracy": 1 / 3, "macro_auc": 0.5}


def utility_curves(study: PrivacyStudy, metric: Metric) -> Figure:
    """One panel for seen hospitals and one for the unseen; dots are single runs."""
    figure = new_figure(8.6, 3.9)
    panels = figure.subplots(1, len(WHERE), sharey=True)
    epsilons: list[float | None] = [b.epsilon for b in study.budgets]
    ticks = [*epsilons, None]
    for axes, where in zip(panels, WHERE, strict=True):
        chance_line(axes, _CHANCE[metric])
        _level(axes, study.utility("demographics", None, where, metric), "age and sex", GREY)
        _level(axes, study.utility("volumes", None, where, metric), "true region volumes", GREEN)
        for arm, title, colour, shift in (
            ("federated", "together", BLUE, -0.07), ("alone", "each alone", ORANGE, 0.07),
        ):  # fmt: skip
            found = [study.utility("federated" if arm == "federated" else "alone", e, where, metric)
                     for e in ticks]  # fmt: skip
            places = [index + shift for index in range(len(ticks))]
            means = [u.mean.value for u in found]
            below = [u.mean.value - u.mean.low for u in found]
            above = [u.mean.high - u.mean.value for u in found]
            axes.errorbar(places, means, [below, above], fmt="o", ms=5, color=colour, capsize=3,
                          label=title, zorder=4)  # fmt: skip
            axes.plot(places[:-1], means[:-1], color=colour, lw=1.4, zorder=3)
            for place, u in zip(places, found, strict=True):
                axes.plot([place] * len(u.runs), u.runs, ".", ms=3, color=colour, alpha=0.35)
        axes.set_xticks(range(len(ticks)), [f"{e:g}" if e else "no privacy" for e in ticks])
        axes.set_xlim(-0.5, len(ticks) - 0.3)
        axes.set_xlabel("ε per patient")
        axes.set_title(TITLES[where])
        axes.grid(axis="y")
    panels[0].set_ylabel(METRIC_TITLES[metric])
    panels[0].legend(loc="lower right", ncols=2)
    return figure


def _level(axes: Axes, utility: Utility, title: str, colour: str) -> None:
    axes.axhspan(utility.mean.low, utility.mean.high, color=colour, alpha=0.09, zorder=0)
    axes.axhline(utility.mean.value, color=colour, lw=1, ls=(0, (2, 2)), label=title, zorder=1)


def signal_to_noise_bars(study: PrivacyStudy) -> Figure:
    """S of every budget, one hospital beside all, on a logarithmic axis with its two limits."""
    figure = new_figure(7.6, 1.3 + 0.55 * len(study.budgets))
    axes = figure.subplots()
    axes.axvspan(1e-3, RANDOM_WALK, color=FAINT, zorder=0)
    for limit, title in ((RANDOM_WALK, "random walk"), (COMFORTABLE, "comfortable")):
        axes.axvline(limit, color=INK, lw=1)
        side = {"random walk": ("right", f"{title} "), "comfortable": ("left", f" {title}")}[title]
        axes.text(limit, 1.01, side[1], transform=axes.get_xaxis_transform(), ha=side[0],
                  va="bottom", color=GREY, size=8)  # fmt: skip
    rows = range(len(study.budgets))
    for shift, colour, title, values in (
        (-0.18, BLUE, "all hospitals", [b.signal_to_noise for b in study.budgets]),
        (0.18, ORANGE, "one alone", [b.signal_to_noise_alone for b in study.budgets]),
    ):
        places = [y + shift for y in rows]
        axes.barh(places, values, 0.34, left=0, color=colour, label=title, zorder=2)
        for y, value in zip(places, values, strict=True):
            axes.text(value * 1.04, y, f"{value:.1f}", va="center", size=8)
    axes.set_yticks(rows, [f"ε = {b.epsilon:g}" for b in study.budgets])
    axes.set_ylim(len(study.budgets) - 0.45, -0.55)
    axes.set_xscale("log")
    axes.set_xlim(0.1, 2 * max(COMFORTABLE, *(b.signal_to_noise for b in study.budgets)))
    axes.set_xlabel("S = signal over noise of the whole run (upper bound)")
    axes.legend(loc="lower right")
    axes.tick_params(axis="y", length=0)
    return figure
