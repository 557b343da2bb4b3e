"""``smrfed-coordinator check``: all checks, on the screen or as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from server.config import CoordinatorFolder
from server.preflight.keys import check_certificate, check_modes, check_registry, check_signing_key
from server.preflight.outside import check_outside
from server.preflight.services import check_dashboard, check_enrolment, check_superlink
from server.preflight.storage import check_clock, check_disk, check_runs
from server.run_path import HERE, Home
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Check, Finding, Trouble, page_of, run_checks

_out = Console()
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red", "skipped": "dim"}
_TROUBLE = Trouble("SMR-E707")
_RUNS_S = 300.0
_OUTSIDE_S = 60.0


def _address(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):\d{1,5}", value):
        raise typer.BadParameter("use HOST:PORT")
    return value


Public = Annotated[
    str | None,
    typer.Option(
        "--public",
        help="HOST:PORT of the reverse proxy, to see what is open",
        callback=_address,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]


def check(home: Home = HERE, public: Public = None, as_json: AsJson = False) -> None:
    """Check what the coordinator needs; exit status 1 when there is a problem."""
    folder = CoordinatorFolder(home)
    # Without a configuration there is nothing to check: SMR-E590.
    _ = folder.config
    findings: list[Finding] = []
    for finding in run_checks(list(_checks(folder, public)), _TROUBLE):
        findings.append(finding)
        if not as_json:
            _print(finding)
    problems = [finding for finding in findings if finding.error is not None]
    if as_json:
        print(json.dumps({"ready": not problems, "checks": [f.as_json() for f in findings]}))
    if problems:
        raise SmrfedError(
            "SMR-E700",
            "the coordinator is not ready",
            expected="no problems",
            found=", ".join(f"{f.what}: {f.error.code}" for f in problems if f.error),
            remedy="settle the problems listed above, then run the check again",
        )


def _checks(home: CoordinatorFolder, public: str | None) -> Iterator[Check]:
    yield Check("keys", "certificate", partial(check_certificate, home))
    yield Check("keys", "signing key", partial(check_signing_key, home))
    yield Check("keys", "file modes", partial(check_modes, home))
    yield Check("keys", "registry", partial(check_registry, home), 30.0)
    yield Check("services", "SuperLink", partial(check_superlink, home))
    yield Check("services", "enrolment", partial(check_enrolment, home), 15.0)
    yield Check("services", "pages", partial(check_dashboard, home))
    yield Check("storage", "disk", partial(check_disk, home))
    yield Check("storage", "clock", partial(check_clock, home))
    yield Check("storage", "runs", partial(check_runs, home), _RUNS_S)
    yield Check("outside", "public address", partial(check_outside, home, public), _OUTSIDE_S)


def _print(finding: Finding) -> None:
    colour, text = _COLOURS[finding.level], escape(finding.found)
    if finding.error is not None:
        text = f"{escape(finding.error.render())}\n  page:     {page_of(finding.error.code)}"
    shown = f"[{colour}]{finding.level:8}[/{colour}][bold]{finding.what:16}[/bold]{text}"
    _out.print(shown, soft_wrap=True, highlight=False)
