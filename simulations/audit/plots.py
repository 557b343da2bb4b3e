"""The figures of the audit's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from simulations.audit.inversion_study import Inversion
from simulations.audit.membership import Membership
from simulations.audit.results import GaussianEstimate
from simulations.audit.verdict import Verdict
from simulations.report.plots.style import (
    BLUE,
    GREY,
    MARKERS,
    ORANGE,
    PALETTE,
    VERMILLION,
    new_figure,
)


def bounds(verdicts: Sequence[Verdict]) -> Figure:
    """Claim and audited lower bounds of every attack; a bound right of its claim is a leak."""
    figure = new_figure(8.6, 1.1 + 0.46 * len(verdicts))
    axes = figure.subplots()
    for y, verdict in enumerate(verdicts):
        colour = VERMILLION if verdict.refuted else BLUE
        axes.hlines(y, 0, verdict.profile_epsilon_at_least, color=colour, linewidth=5, alpha=0.35)
        axes.plot(verdict.profile_epsilon_at_least, y, "o", color=colour, markersize=7)
        axes.plot(
            verdict.epsilon_at_least, y, "D", color=colour, markerfacecolor="white", markersize=6
        )
        axes.plot([verdict.claimed_epsilon] * 2, [y - 0.3, y + 0.3], color="black", linewidth=2)
    axes.plot([], [], color="black", linewidth=2, label="claimed")
    axes.plot([], [], "o", color=BLUE, label="at least, in the claim's family")
    axes.plot([], [], "D", color=BLUE, markerfacecolor="white", label="at least, any mechanism")
    axes.set_yticks(range(len(verdicts)), [verdict.title for verdict in verdicts])
    axes.set_ylim(len(verdicts) - 0.4, -0.6)
    axes.set_xlim(left=-0.15)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("ε at the claim's δ")
    axes.grid(axis="x")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def cosines(estimate: GaussianEstimate) -> Figure:
    """Cosines of canaries with the released update, members and outsiders."""
    figure = new_figure(6.4, 2.8)
    axes = figure.subplots()
    both = np.concatenate([estimate.members, estimate.outsiders])
    bins = np.linspace(both.min(), both.max(), 41).tolist()
    axes.hist(estimate.outsiders, bins, color=GREY, alpha=0.6, label="canary did not train")
    axes.hist(estimate.members, bins, color=ORANGE, alpha=0.6, label="canary trained")
    axes.set_xlabel("cosine of the canary's direction with the sum of all released updates")
    axes.set_ylabel("canaries")
    axes.legend()
    return figure


def curves(found: Sequence[Membership]) -> Figure:
    """ROC curves of membership inference, on logarithmic axes, where it matters."""
    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    least = 0.5 / max(m.outsiders for m in found)
    grid = np.geomspace(least, 1, 100)
    axes.plot(grid, grid, color=GREY, linestyle=(0, (4, 3)), linewidth=1, label="guessing")
    for index, attack in enumerate(found):
        fpr, tpr = (np.array(values) for values in zip(*attack.curve, strict=True))
        axes.step(
            np.maximum(fpr, least), np.maximum(tpr, least), where="post",
            color=PALETTE[index], label=f"{attack.title} ({attack.auroc:.2f})",
            marker=MARKERS[index], markevery=0.2, markersize=4,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    axes.grid()
    axes.legend(title="attack (AUROC)", loc="lower right", fontsize=7)
    return figure


def reconstructions(
    attacks: Sequence[Inversion], images: Mapping[str, npt.NDArray[np.float32]]
) -> Figure:
    """The original, and what every attack made of the update: middle slices of two planes."""
    keys = ["original", *(a.key for a in attacks if a.key != "mask")]
    by_key = {attack.key: attack for attack in attacks}
    figure = new_figure(1.72 * len(keys), 4.3)
    grid = figure.subplots(2, len(keys))
    for column, key in enumerate(keys):
        volume = images[key]
        middle = [size // 2 for size in volume.shape]
        for row, plane in enumerate((volume[:, :, middle[2]], volume[:, middle[1] - 2, :])):
            axes = grid[row, column]
            axes.imshow(plane.T, cmap="gray", vmin=0, vmax=1, origin="lower")
            axes.set_axis_off()
        attack = by_key.get(key)
        grid[0, column].set_title(
            "original" if attack is None else _short(attack), fontsize=7.5, loc="center"
        )
    return figure


def _short(attack: Inversion) -> str:
    head, _, tail = attack.title.rpartition(", ")
    lines = (
        head.replace("SMR-Net with its ", "")
        .replace("SMR-Net, ", "")
        .replace("control: ", "control:\n")
    )
    return f"{lines}\n{tail}\nSSIM {round(attack.ssim, 2) + 0.0:.2f}, {attack.psnr_db:.1f} dB"
