"""The report as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from pathlib import Path

from simulations.report import wording
from simulations.report.environment import page_environment
from simulations.report.figures import pictures
from simulations.report.headline import ratio_interval, statements
from simulations.report.plots.region_importance import ranked_regions
from simulations.report.results import FederationReport
from simulations.report.storage import write_text_atomically
from simulations.report.tables import (
    participation_table,
    score_table,
    small_groups,
    spread_table,
)


def render_report(report: FederationReport, out_html: Path, evaluation: str | None = None) -> None:
    """Draw the report and write it atomically; the same report gives the same bytes.

    ``evaluation`` names the page of the full evaluation beside it, which is then linked.
    """
    write_text_atomically(out_html, report_html(report, evaluation))


def report_html(report: FederationReport, evaluation: str | None = None) -> str:
    """The page as text; every name is escaped."""
    environment = page_environment()
    environment.filters |= {
        "percent": wording.percent,
        "significant": wording.significant,
        "duration": wording.duration,
        "listed": wording.listed,
        "region": wording.region_title,
        "ratio_interval": ratio_interval,
    }
    explained = report.explanations
    return environment.get_template("report.html.jinja").render(
        report=report,
        evaluation=evaluation,
        arm=report.arm(report.headline_arm),
        alone=report.first_arm("alone"),
        statements=statements(report),
        pictures=pictures(report),
        scores=score_table(report),
        spread=spread_table(report),
        participation=participation_table(report),
        small=small_groups(report),
        top_regions=[] if explained is None else ranked_regions(explained)[:20],
    )
