"""What changes over the rounds of a run: released figures, time, hospitals, epsilon."""

from __future__ import annotations

from itertools import pairwise

from server.dashboard.catalogue import View
from server.dashboard.spent import Asked, asked_of, most_asked, spent_epsilon
from server.evaluation.intervals import Estimate
from shared_model.local_page.background import Background
from shared_model.local_page.drawings import Line, chart

_POINTS = 240
_MARKS = 9


def charts(view: View, later: Background) -> str:
    """All charts that have points, side by side."""
    rounds = view.files.plan.training.rounds
    drawn = [
        _figures(view),
        _epsilon(view, later),
        _seconds(view),
        _hospitals(view),
    ]
    shown = "".join(one for one in drawn if one)
    return f'<div class="charts">{shown}</div>' if shown and rounds else ""


def _figures(view: View) -> str:
    """Balanced accuracy and macro AUC over all hospitals, as released, with their intervals."""
    lines: dict[str, list[tuple[float, Estimate]]] = {"balanced accuracy": [], "macro AUC": []}
    for release in view.figures.charted(view.releases):
        found = view.figures.figures(release)
        if found is None or found.together is None:
            continue
        # Calibrated figures stand beside those of the same round.
        lines["balanced accuracy"].append((release.after_round, found.together.balanced_accuracy))
        lines["macro AUC"].append((release.after_round, found.together.macro_auc))
    shift = {"balanced accuracy": -0.06, "macro AUC": 0.06}
    return chart(
        "Released figures, all hospitals together (95 % intervals)",
        [
            Line(
                name,
                tuple((x + shift[name], e.value) for x, e in found if e.value is not None),
                tuple((x + shift[name], e.low, e.high) for x, e in found),
            )
            # The last one may be of an earlier round's model.
            for name, found in ((n, sorted(f, key=lambda one: one[0])) for n, f in lines.items())
        ],
        "after round",
        view.files.plan.training.rounds,
        limit=(1 / len(view.files.plan.task.labels), "guessing"),
    )


def _epsilon(view: View, later: Background) -> str:
    plan = view.files.plan
    if plan.privacy.mode == "none" or not view.files.history:
        return ""
    done = view.files.completed
    marks = sorted({0, *(round(done * k / _MARKS) for k in range(1, _MARKS + 1))})
    points = []
    for mark in marks:
        records = tuple(r for r in view.history if r.round <= mark and r.kind != "finalise")
        asked = most_asked({s: asked_of(s, records) for s in view.files.weights})
        value = 0.0 if asked == Asked() else spent_epsilon(plan, asked, later)
        if value is not None:
            points.append((float(mark), value))
    return chart(
        "Epsilon of the worst patient, by public accounting",
        [Line("spent", tuple(points))],
        "rounds",
        plan.training.rounds,
        limit=(plan.privacy.epsilon, f"budget {plan.privacy.epsilon:g}"),
    )


def _seconds(view: View) -> str:
    points = [(float(r.round), r.seconds) for r in view.files.history]
    return chart(
        "Seconds per round",
        [Line("seconds", _thinned(points))],
        "round",
        view.files.plan.training.rounds,
    )


def _hospitals(view: View) -> str:
    points = [(float(r.round), float(len(r.accepted))) for r in view.files.history]
    return chart(
        "Hospitals that counted",
        [Line("hospitals", _thinned(points))],
        "round",
        view.files.plan.training.rounds,
        limit=(view.files.plan.federation.min_sites, "quorum"),
    )


def _thinned(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Of many points the lowest and highest of every stretch: peaks stay to be seen."""
    if len(points) <= _POINTS:
        return tuple(points)
    ends = [round(i * len(points) / (_POINTS // 2)) for i in range(_POINTS // 2 + 1)]
    kept = []
    for start, end in pairwise(ends):
        part = points[start:end]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return tuple(kept)
