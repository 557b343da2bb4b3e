"""The argument in one picture: accuracy against epsilon and the number of hospitals."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MultipleLocator

from simulations.modes_study.cells import DESIGN
from simulations.modes_study.results import ModesStudy, Row
from simulations.modes_study.settings import ARMS, ArmKey
from simulations.privacy_study.predicted import Metric, Where
from simulations.report.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    chance_line,
    new_figure,
)

_LOOK: dict[ArmKey, tuple[str, str]] = {
    "none": (INK, "-"),
    "central": (GREEN, "^"),
    "distributed_trusting": (SKY, "D"),
    "distributed": (BLUE, "o"),
    "local": (ORANGE, "s"),
    "alone": (GREY, "v"),
    "hospital": (PURPLE, "X"),
}
_PLACES: dict[Where, str] = {
    "seen": "test patients of hospitals that trained",
    "first": "test patients of the two hospitals\nthat are in every federation",
    "unseen": "test patients of a hospital\nthat nobody trained on",
}
# Whole hospitals lie far to the left.
_LEAST_SIGNAL = 0.3
_CHANCE: dict[Metric, float] = {"balanced_accuracy": 1 / 3, "macro_auc": 0.5}
_TITLES: dict[Metric, str] = {"balanced_accuracy": "balanced accuracy", "macro_auc": "macro AUC"}


def modes_picture(study: ModesStudy, metric: Metric = "balanced_accuracy") -> Figure:
    """Against epsilon with four hospitals, against their number, and everything against S; above
    the hospitals that trained, below the unseen one. Bars are 95 % intervals.
    """
    figure = new_figure(12.6, 7.2)
    panels = figure.subplots(2, 3, sharey=True, width_ratios=(1.1, 1, 0.9))
    epsilons = sorted({r.epsilon for r in study.rows if r.epsilon and r.hospitals == DESIGN})
    counts = sorted({row.hospitals for row in study.rows if row.arm == "local"})
    places = [1, *counts]
    for (left, right, last), where in zip(panels, ("seen", "unseen"), strict=True):
        for axes in (left, right, last):
            chance_line(axes, _CHANCE[metric])
            axes.yaxis.set_major_locator(MultipleLocator(0.1))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%.1f"))
            axes.grid(axis="y")
        here: Where = "seen" if where == "seen" else "unseen"
        _against_epsilon(left, study, epsilons, here, metric)
        _against_hospitals(right, study, places, "first" if here == "seen" else here, metric)
        _against_signal(last, study, here, metric)
        left.set_ylabel(f"{_TITLES[metric]}\n{_PLACES[here]}")
    panels[0][0].set_title(f"{DESIGN} hospitals: against the budget")
    panels[0][1].set_title(f"ε = {study.hospitals_epsilon:g}: against the number of hospitals")
    panels[0][2].set_title("all of them: against S")
    panels[1][0].set_xlabel("ε per patient")
    panels[1][1].set_xlabel(f"hospitals that train, {study.patients_per_site} patients each")
    panels[1][2].set_xlabel("S, predicted before anything is run")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _against_epsilon(
    axes: Axes, study: ModesStudy, epsilons: Sequence[float], where: Where, metric: Metric
) -> None:
    for number, (arm, (colour, marker)) in enumerate(_LOOK.items()):
        if arm == "none":
            continue
        hospitals = 1 if arm == "alone" else DESIGN
        shift = 0.09 * (number - 3.5)
        rows = [(k + shift, study.row(arm, e, hospitals)) for k, e in enumerate(epsilons)]
        _points(axes, [(x, r) for x, r in rows if r], where, metric, arm, colour, marker)
    none = study.row("none", None, DESIGN)
    if none is not None:
        x = float(len(epsilons))
        _points(axes, [(x, none)], where, metric, "none", INK, "P")
    axes.set_xticks(range(len(epsilons) + 1), [*(f"{e:g}" for e in epsilons), "no privacy"])
    axes.set_xlim(-0.5, len(epsilons) + 0.4)


def _against_hospitals(
    axes: Axes, study: ModesStudy, counts: Sequence[int], where: Where, metric: Metric
) -> None:
    for number, (arm, (colour, marker)) in enumerate(_LOOK.items()):
        if arm == "hospital":
            continue
        epsilon = None if arm == "none" else study.hospitals_epsilon
        shift = 0.09 * (number - 2.5)
        rows = [(k + shift, study.row(arm, epsilon, n)) for k, n in enumerate(counts)]
        look = "P" if arm == "none" else marker
        _points(axes, [(x, r) for x, r in rows if r], where, metric, arm, colour, look)
    axes.set_xticks(range(len(counts)), [f"{n}" if n > 1 else "1, alone" for n in counts])
    axes.set_xlim(-0.5, len(counts) - 0.5)


def _against_signal(axes: Axes, study: ModesStudy, where: Where, metric: Metric) -> None:
    """One point per row that has noise: what the mode is does not matter, S does."""
    for row in study.rows:
        if row.predicted is None or row.predicted < _LEAST_SIGNAL:
            continue
        colour, marker = _LOOK[row.arm]
        estimate = row.scores[where][metric]
        axes.errorbar(
            row.predicted, estimate.value,
            [[estimate.value - estimate.low], [estimate.high - estimate.value]],
            fmt=marker, ms=5, color=colour, lw=0.6, alpha=0.8, zorder=4,
        )  # fmt: skip
    without = study.row("none", None, DESIGN)
    if without is not None:
        axes.axhline(without.scores[where][metric].value, color=INK, lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    axes.minorticks_off()


def _points(
    axes: Axes,
    found: Sequence[tuple[float, Row]],
    where: Where,
    metric: Metric,
    arm: ArmKey,
    colour: str,
    marker: str,
) -> None:
    if not found:
        return
    places = [x for x, _ in found]
    estimates = [row.scores[where][metric] for _, row in found]
    means = [e.value for e in estimates]
    errors = [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]
    axes.errorbar(places, means, errors, fmt=marker, ms=5, color=colour, capsize=2.5, lw=1,
                  label=ARMS[arm].title, zorder=4)  # fmt: skip
    axes.plot(places, means, color=colour, lw=1.4, alpha=0.8, zorder=3)
