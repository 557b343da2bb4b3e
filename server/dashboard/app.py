"""The dashboard's pages and its JSON, by address; everything here only reads."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from server.config import CoordinatorFolder
from server.dashboard.catalogue import RunCatalogue
from server.dashboard.connected import Connected, ConnectionWatch
from server.dashboard.facts import summary_facts, view_facts
from server.dashboard.log_files import log_files
from server.dashboard.overview_page import overview_sections
from server.dashboard.registered import registered_sites
from server.dashboard.run_page import run_sections
from server.dashboard.sites_page import KnownSite, known_sites, sites_facts, sites_sections
from server.dashboard.words import moment, sized
from server.online_sites import online_sites
from shared_model.errors import SmrfedError
from shared_model.evaluation import html
from shared_model.local_page.answers import Answer, Question, json_answer, page_answer
from shared_model.local_page.background import Background
from shared_model.local_page.error_texts import error_text
from shared_model.local_page.shell import live_page

PRODUCT = "smrfed coordinator"
_LINKS = (("/", "Runs"), ("/sites", "Hospitals"), ("/logs", "Logs"))
_MOST_ROUNDS = 1000


class Dashboard:
    """Answers questions about one coordinator's folder.

    Args:
        home: the folder.
        ask_connected: names of the connected sites; tests replace it.
    """

    def __init__(
        self,
        home: CoordinatorFolder,
        ask_connected: Callable[[], frozenset[str]] | None = None,
    ) -> None:
        self._home = home
        self.later = Background()
        self._runs = RunCatalogue(home.runs, self.later)
        self._watch = ConnectionWatch(ask_connected or (lambda: online_sites(home)))

    def __call__(self, question: Question) -> Answer | None:
        """The answer, or None where there is nothing."""
        path = question.path
        if path == "/":
            return self._page("Runs", "/", overview_sections(self._runs.summaries(), "runs"))
        if path == "/sites":
            return self._page("Hospitals", "/sites", sites_sections(*self._sites()))
        if path == "/logs":
            return self._page("Logs", "/logs", self._logs())
        if path == "/api/runs":
            return json_answer({"runs": [summary_facts(one) for one in self._runs.summaries()]})
        if path == "/api/sites":
            return json_answer(sites_facts(*self._sites()))
        if path.startswith("/errors/"):
            return self._error(path.removeprefix("/errors/"))
        for start, answer in (("/runs/", self._run), ("/api/runs/", self._run_facts)):
            if path.startswith(start):
                return answer(path.removeprefix(start), question)
        return None

    def _run(self, name: str, question: Question) -> Answer | None:
        try:
            view = self._runs.view(name)
        except SmrfedError as error:
            told = html.section("problem", "This run cannot be read", html.code(error.render()))
            return self._page(name, "/", [told])
        if view is None:
            return None
        upto = _number(question.parameters.get("upto"))
        return self._page(name, "/", run_sections(view, self.later, upto))

    def _run_facts(self, name: str, question: Question) -> Answer | None:
        try:
            view = self._runs.view(name)
        except SmrfedError as error:
            return json_answer({"error": f"{error.code} {error.what}"}, 500)
        if view is None:
            return None
        rounds = _number(question.parameters.get("rounds")) or 20
        return json_answer(view_facts(view, min(rounds, _MOST_ROUNDS)))

    def _sites(self) -> tuple[tuple[KnownSite, ...], Connected, str | None]:
        registered, problem = registered_sites(self._home.registry)
        connected = self._watch.now()
        return known_sites(registered, connected, self._runs.summaries()), connected, problem

    def _logs(self) -> list[str]:
        found = log_files(self._home.logs)
        if not found:
            none = html.paragraph("There is no log file in this folder yet.", "note")
            return [f'<section id="logs">{none}</section>']
        sections = []
        for number, log in enumerate(found):
            about = f"written {moment(log.written_at, seconds=True)}, {sized(log.bytes)}"
            lines = escape("\n".join(reversed(log.lines)))
            shown = f'<pre class="log" tabindex="0" aria-label="{escape(log.name)}">{lines}</pre>'
            opened = " open" if number == 0 else ""
            sections.append(
                html.section(
                    f"log-{number}",
                    log.name,
                    html.paragraph(about, "note"),
                    f"<details{opened}><summary>last lines, the newest first</summary>{shown}"
                    "</details>",
                )
            )
        return sections

    def _error(self, code: str) -> Answer | None:
        text = error_text(code)
        if text is None:
            return None
        return self._page(f"Error {code}", "", [f'<section id="error">{text}</section>'])

    def _page(self, title: str, here: str, sections: list[str]) -> Answer:
        return page_answer(live_page(title, PRODUCT, _LINKS, here, [s for s in sections if s]))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 10 else None
