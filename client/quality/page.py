"""One self-contained HTML page per hospital for the person who checks its scans."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from client.agent.durable import write_if_changed
from client.quality.sections import (
    cards,
    distributions,
    exclusion_table,
    legend,
    provenance_table,
    reason_chips,
    scan_table,
    summary,
)
from client.quality.site_page import SitePage


def write_page(path: Path, page: SitePage) -> None:
    """Write the page in one step, readable by its owner only; the same input, the same bytes.

    It loads nothing from anywhere and its policy forbids it. Scans that fail come first, then those
    to review; paths in any text are cut to the file's name, and who decided and when stays in
    the records.
    """
    write_if_changed(path, page_html(page).encode("utf-8"))


def page_html(page: SitePage) -> str:
    """The page as text; everything that came from outside is escaped."""
    template = Template((files("client.quality") / "page.html").read_text(encoding="utf-8"))
    order = {"fail": 0, "review": 1, "pass": 2}
    scans = sorted(
        page.scans,
        key=lambda s: (
            order[s.verdict.result],
            not s.verdict.reasons,
            s.subject,
            s.session,
            s.source_sha256,
        ),
    )
    text = template.substitute(
        site=escape(page.site),
        summary=summary(scans, page.excluded, page.use),
        legend=legend(),
        reasons=reason_chips(scans, page.excluded),
        table=scan_table(scans, page.use),
        cards=cards(scans, page.use),
        distributions=distributions(scans, page.limits),
        excluded=exclusion_table(page.excluded),
        provenance=provenance_table(page.provenance, page.limits),
    )
    return text
