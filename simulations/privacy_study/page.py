"""The study as one self-contained page."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from simulations.privacy_study.plots import METRIC_TITLES, signal_to_noise_bars, utility_curves
from simulations.privacy_study.predicted import WHERE, Metric, Where
from simulations.privacy_study.results import Estimate, PrivacyStudy
from simulations.privacy_study.wording import sentences
from simulations.report.environment import page_environment
from simulations.report.figures import Picture
from simulations.report.plots.style import STYLE, svg_data_uri
from simulations.report.storage import write_text_atomically

ARM_TITLES = {
    "federated": "Together",
    "prior_free": "Together, prior-free rule",
    "alone": "Each alone",
    "prior": "Prior",
    "demographics": "Age and sex",
    "volumes": "True region volumes",
}
_COLUMNS: tuple[tuple[Where, Metric], ...] = tuple(
    (where, metric) for where in WHERE for metric in METRIC_TITLES
)


def study_rows(study: PrivacyStudy) -> list[tuple[str, float | None, list[Estimate]]]:
    """Title, epsilon and the four estimates of every arm, as table rows."""
    seen: dict[tuple[str, float | None], list[Estimate]] = {}
    for u in study.utilities:
        row = seen.setdefault((ARM_TITLES[u.arm], u.epsilon), [u.mean] * len(_COLUMNS))
        row[_COLUMNS.index((u.where, u.metric))] = u.mean
    return [(title, epsilon, cells) for (title, epsilon), cells in seen.items()]


def write_page(study: PrivacyStudy, path: Path) -> None:
    """Draw the page and write it atomically."""
    environment = page_environment()
    with mpl.rc_context(STYLE):
        pictures = [
            Picture("utility", f"{title} against epsilon", svg_data_uri(utility_curves(study, m)))
            for m, title in METRIC_TITLES.items()
        ]
        bars = svg_data_uri(signal_to_noise_bars(study))
        pictures.append(Picture("signal", "Signal to noise of every budget", bars))
    page = environment.get_template("privacy_study.html.jinja").render(
        study=study,
        sentences=list(sentences(study)),
        pictures=pictures,
        columns=_COLUMNS,
        metric_titles=METRIC_TITLES,
        rows=study_rows(study),
    )
    write_text_atomically(path, page)
