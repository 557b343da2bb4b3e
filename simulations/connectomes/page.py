"""The tables of docs/connex.md from the record of the study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared_model.atlas.cache import write_atomically
from simulations.connectomes.results import Arm, ConnexStudy

START, END = "<!-- study: begin -->", "<!-- study: end -->"
_TITLES = {
    "main": "One pooled cohort: masks, ablations, single modalities (rows 19, 28, 30, 31)",
    "interaction": "Interaction: the class is whether both modalities agree (row 29)",
    "cohorts": "Two cohorts: trained on one, tested on both (row 32)",
    "missing": "Missing modalities (row 19)",
    "coupling": "Structure-function coupling (row 20)",
    "federated": "Federated through real agents, four sites",
}
_NAMES = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "mask_auroc_structural": "planted edges, structural",
    "mask_auroc_functional": "planted edges, functional",
    "epsilon": "epsilon",
    "planted": "planted coupling",
    "recovered": "recovered coupling",
    "rank_correlation": "rank correlation over regions",
}


def tables(study: ConnexStudy) -> str:
    """Markdown: mean over seeds, and the smallest and the largest."""
    lines = [f"`{study.command}`; {study.machine}; {study.cpu_seconds / 60:.1f} min of CPU."]
    for item, title in _TITLES.items():
        arms = study.of(item)
        if not arms:
            continue
        columns = [c for c in _NAMES if any(c in arm.figures for arm in arms)]
        seeds = len({arm.seed for arm in arms})
        lines += ["", f"### {title}", "", f"{seeds} seeds: mean (smallest to largest)."]
        lines += ["", "| arm | " + " | ".join(_NAMES[c] for c in columns) + " |"]
        lines.append("| --- |" + " --- |" * len(columns))
        for name in dict.fromkeys(arm.arm for arm in arms):
            own = [arm for arm in arms if arm.arm == name]
            lines.append(f"| {name} | " + " | ".join(_cell(own, c) for c in columns) + " |")
    return "\n".join(lines)


def _cell(arms: Sequence[Arm], column: str) -> str:
    values = np.array([arm.figures[column] for arm in arms if column in arm.figures])
    if not len(values):
        return ""
    if np.ptp(values) < 5e-4:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def renew(page: Path, study: ConnexStudy) -> None:
    """Put the tables between the page's two marks."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    new = f"{before}{START}\n{tables(study)}\n{END}{after}"
    write_atomically(page, new.encode())
