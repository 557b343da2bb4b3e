"""The hospital's page and its JSON, by address; everything here only reads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from client.agent.state import StateFolder
from client.config import SiteConfig
from client.status_page.activity import activity
from client.status_page.budget import BudgetReader
from client.status_page.page import site_sections
from client.status_page.quality_counts import quality_counts
from client.status_page.readiness import readiness
from client.status_page.records import RecordBooks
from shared_model.local_page.answers import HTML, Answer, Question, json_answer, page_answer
from shared_model.local_page.error_texts import error_text
from shared_model.local_page.renewed import Renewed
from shared_model.local_page.shell import live_page

PRODUCT = "smrfed site"
# The quality page holds its own style and script; it may show itself and reach nothing.
_QUALITY_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
)


class SitePage:
    """Answers questions about one hospital's state folder, with or without a running agent."""

    def __init__(self, site: SiteConfig) -> None:
        self._site = site
        self._state = StateFolder(site.state_dir)
        self._records = RecordBooks(self._state)
        self._activity = Renewed(lambda: activity(site), 3.0, first_s=4.0)
        self._budget = Renewed(BudgetReader(site).look, 3.0, first_s=2.0)
        self._checks = Renewed(lambda: readiness(site), 120.0)

    def __call__(self, question: Question) -> Answer | None:
        """The answer, or None where there is nothing."""
        path = question.path
        if path == "/":
            return self._page(self._site.name, self._sections())
        if path == "/api/status":
            return json_answer(self._facts())
        if path == "/quality":
            return self._quality()
        if path.startswith("/errors/"):
            code = path.removeprefix("/errors/")
            text = error_text(code)
            if text is not None:
                return self._page(f"Error {code}", [f'<section id="error">{text}</section>'])
        return None

    def _sections(self) -> list[str]:
        return site_sections(
            self._activity.now(),
            self._budget.now(),
            self._records.look(),
            quality_counts(self._state.derivatives),
            self._checks.now(),
        )

    def _facts(self) -> dict[str, Any]:
        doing, budget, records = self._activity.now(), self._budget.now(), self._records.look()
        figures = None if budget is None else budget.overview
        checks = self._checks.now()
        counts = quality_counts(self._state.derivatives)
        return {
            "site": self._site.name,
            "running": None if doing is None else doing.running,
            "activity": None if doing is None else doing.word,
            "plans": [] if budget is None else [asdict(plan) for plan in budget.plans],
            "runs": {
                run_id: {"round": number, "kind": kind}
                for run_id, number, kind in (() if doing is None else doing.runs)
            },
            "epsilon": None if figures is None else figures.epsilon,
            "delta": None if figures is None else figures.delta,
            "max_epsilon": None if figures is None else figures.max_epsilon,
            "problems": [] if budget is None else [f"{e.code} {e.what}" for e in budget.problems],
            "records": {
                "chains": [asdict(chain) for chain in records.chains],
                "left": records.left,
                "bytes": records.bytes,
                "acknowledged": records.acknowledged,
                "last": [line.model_dump(mode="json") for line, _ in records.last],
            },
            "quality": None if counts is None else asdict(counts),
            "checks": None if checks is None else [finding.as_json() for finding in checks],
        }

    def _quality(self) -> Answer | None:
        try:
            body = (self._state.derivatives / "quality.html").read_bytes()
        except OSError:
            return None
        return Answer(body, HTML, policy=_QUALITY_POLICY)

    def _page(self, title: str, sections: list[str]) -> Answer:
        here = "/" if title == self._site.name else ""
        return page_answer(live_page(title, PRODUCT, (("/", "Status"),), here, sections))
