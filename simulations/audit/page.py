"""The audit as one HTML file that needs nothing else, in the look of the federation's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from simulations.audit import plots
from simulations.audit.results import AuditReport
from simulations.report import wording
from simulations.report.environment import page_environment
from simulations.report.plots.style import STYLE, svg_data_uri
from simulations.report.storage import write_text_atomically


def write_page(
    report: AuditReport, images: Mapping[str, npt.NDArray[np.float32]], path: Path
) -> None:
    """Draw and write the page atomically; every name is escaped."""
    environment = page_environment("simulations.audit")
    environment.filters |= {
        "significant": wording.significant,
        # Adding zero makes of a rounded "-0.00" what it means.
        "similarity": lambda value: f"{round(value, 2) + 0.0:.2f}",
    }
    with mpl.rc_context(STYLE):
        pictures = {
            "bounds": svg_data_uri(plots.bounds(report.verdicts)),
            "cosines": svg_data_uri(plots.cosines(report.estimate)),
            "curves": svg_data_uri(plots.curves(report.membership)),
            "inversion": svg_data_uri(plots.reconstructions(report.inversion, images)),
        }
    page = environment.get_template("audit.html.jinja").render(report=report, pictures=pictures)
    write_text_atomically(path, page)
