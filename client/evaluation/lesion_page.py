"""A page for people about figures of lesions at one hospital."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_NAMES = {
    "dice": "Dice",
    "hausdorff_95_mm": "HD95, median, mm",
    "absolute_volume_error_ml": "Absolute volume error, ml",
    "lesion_f1": "Lesion F1",
    "sensitivity_at_1_fp": "Sensitivity at 1 false positive per scan",
    "ap_iou_0.1": "AP at IoU 0.1",
    "ap_iou_0.25": "AP at IoU 0.25",
    "ap_iou_0.5": "AP at IoU 0.5",
}
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.35rem .8rem;text-align:right;"
    "border-bottom:1px solid #ccc}td:first-child,th:first-child{text-align:left}"
    ".stay{background:#fde8e8;border-left:4px solid #b00020;padding:.6rem 1rem}"
)


def lesion_page(
    title: str, notice: str, facts: Sequence[tuple[str, str]], arms: Mapping[str, Mapping[str, Any]]
) -> str:
    """HTML of the figures of several models on the same patients.

    Args:
        title: of the page.
        notice: what must not happen with it.
        facts: lines of what was evaluated.
        arms: title of a model -> its figures, as :mod:`shared_model.metrics.lesion_summary`.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in arms)
    rows = []
    for key, name in _NAMES.items():
        if any(key in figures for figures in arms.values()):
            cells = "".join(f"<td>{_cell(figures, key)}</td>" for figures in arms.values())
            rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    first = next(iter(arms.values()))
    known = [
        ("Patients", first["patients"]),
        ("with lesions", first["patients_with_lesions"]),
        ("Lesions", first["lesions"]),
    ]
    lines = [*facts, *((name, str(value)) for name, value in known)]
    said = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in lines)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1><p class=stay>{escape(notice)}</p>"
        f"<table>{said}</table><table><tr><th>Figure, 95 % interval over patients</th>{head}</tr>"
        f"{''.join(rows)}</table><p>A dash: these patients do not determine the figure. Dice and "
        "distances compare masks on the plan's grid; a lesion smaller than its voxels may not be "
        "there at all.</p></html>\n"
    )


def _cell(figures: Mapping[str, Any], key: str) -> str:
    value, (low, high) = figures.get(key), figures.get(f"{key}_95") or (None, None)
    if value is None:
        return "-"
    ends = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{value:.2f}{ends}"
