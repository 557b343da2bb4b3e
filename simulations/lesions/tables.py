"""The study's figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = {
    "segmentation": (
        ("dice", "Dice"),
        ("hausdorff_95_mm", "HD95 mm"),
        ("lesion_f1", "lesion F1"),
        ("absolute_volume_error_ml", "volume error ml"),
    ),
    "detection": (
        ("sensitivity_at_1_fp", "sensitivity at 1 FP per scan"),
        ("ap_iou_0.1", "AP at IoU 0.1"),
        ("ap_iou_0.25", "AP at IoU 0.25"),
    ),
}


def tables(found: Mapping[str, Any]) -> str:
    """Tables of the tasks that a record holds."""
    parts = [_task(task, found[task]) for task in _COLUMNS if task in found]
    if "annotation" in found:
        parts += [_annotation(one) for one in found["annotation"].values()]
    return "\n\n".join(parts)


def _task(task: str, arms: Mapping[str, Any]) -> str:
    columns = _COLUMNS[task]
    first = columns[0]
    head = ["arm", *(name for _, name in columns), f"{first[1]}, unseen hospital"]
    rows = [
        [arm]
        + [_cell(figures["seen"], key) for key, _ in columns]
        + [_cell(figures["unseen"], first[0])]
        for arm, figures in arms.items()
    ]
    return _markdown(head, rows)


def _annotation(found: Mapping[str, Any]) -> str:
    arms = ("first", "marked only", "with confident proposals", "with proposals and corrections")
    rows = [
        [arm, str(found[arm].get("patients", found["marked"])), _cell(found[arm], "dice")]
        for arm in arms
    ]
    return _markdown(["trained on", "patients", "Dice"], rows)


def _cell(figures: Mapping[str, Any], key: str) -> str:
    value = figures[key]
    if value is None:
        return "-"
    low, high = figures.get(f"{key}_95") or (None, None)
    if low is None or high is None:
        return f"{value:.2f}"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
