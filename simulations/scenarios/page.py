"""A scenario as one self-contained page."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from simulations.report.environment import page_environment
from simulations.report.plots.style import STYLE, svg_data_uri
from simulations.report.storage import write_text_atomically
from simulations.scenarios.plots import forest
from simulations.scenarios.results import ScenarioResults
from simulations.scenarios.tables import columns, difference_cells, place, row_cells, words


def write_page(results: ScenarioResults, path: Path) -> None:
    """Draw the page and write it atomically."""
    environment = page_environment()
    with mpl.rc_context(STYLE):
        picture = svg_data_uri(forest(results))
    sites = tuple(dict.fromkeys(key for arm in results.arms for key in arm.groups if ":" in key))
    page = environment.get_template("scenario.html.jinja").render(
        results=results,
        picture=picture,
        columns=columns(results),
        rows=[row_cells(results, arm) for arm in results.arms],
        differences=[(row.verdict, difference_cells(results, row)) for row in results.differences],
        site_titles=[place(key) for key in sites],
        site_rows=[
            (
                arm.title,
                [words(arm.groups[k].balanced_accuracy) if k in arm.groups else "" for k in sites],
            )
            for arm in results.arms
        ],
    )
    write_text_atomically(path, page)
