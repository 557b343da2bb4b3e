"""``smrfed-site check``: the pre-flight, on the screen or as JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from client.commands.display import DEFAULT_CONFIG, AsJson, err, out, print_json
from client.config import SiteConfig
from client.preflight.catalogue import GROUPS, checks_of
from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Finding, Trouble, page_of, run_checks

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red", "skipped": "dim"}
_TROUBLE = Trouble("SMR-E449")

ConfigArgument = Annotated[Path, typer.Argument(help="the site's configuration", metavar="CONFIG")]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", help="plan to check against; default: the newest accepted one"),
]


def _groups(values: list[str] | None) -> list[str] | None:
    for value in values or ():
        if value not in GROUPS:
            raise typer.BadParameter(f"use one of {', '.join(GROUPS)}")
    return values


Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help=f"only this group, repeatable: {', '.join(GROUPS)}",
        metavar="GROUP",
        callback=_groups,
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="leave the network out")]


def _address(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):\d{1,5}", value):
        raise typer.BadParameter("use HOST:PORT")
    return value


Coordinator = Annotated[
    str | None,
    typer.Option(
        "--coordinator", help="HOST:PORT to try before the hospital has joined", callback=_address
    ),
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--authority", help="PEM file of the coordinator's authority", exists=True, dir_okay=False
    ),
]


def check(
    config: ConfigArgument = DEFAULT_CONFIG,
    plan: PlanOption = None,
    only: Only = None,
    offline: Offline = False,
    coordinator: Coordinator = None,
    authority: Authority = None,
    as_json: AsJson = False,
) -> None:
    """Check everything that this site needs to take part; counts are shown here only.

    Exit status 1 when there is a problem; notes stop nobody.
    """
    site = CheckedSite(SiteConfig.load(config), plan)
    groups = tuple(
        group
        for group in GROUPS
        if (not only or group in only) and not (offline and group == "network")
    )
    checks = checks_of(site, groups, coordinator=coordinator, authority=authority)
    findings: list[Finding] = []
    with err.status("checking"):
        for finding in run_checks(checks, _TROUBLE):
            findings.append(finding)
            if not as_json:
                _print(finding)
    problems = [finding for finding in findings if finding.error is not None]
    if as_json:
        print_json({"ready": not problems, "checks": [f.as_json() for f in findings]})
    if problems:
        raise SmrfedError(
            "SMR-E420",
            "this site is not ready to take part",
            expected="no problems",
            found=", ".join(f"{f.what}: {f.error.code}" for f in problems if f.error),
            remedy="settle the problems listed above, then run the check again",
        )


def _print(finding: Finding) -> None:
    colour = _COLOURS[finding.level]
    text = escape(finding.found)
    if finding.error is not None:
        page = page_of(finding.error.code)
        text = f"{escape(finding.error.render())}\n  page:     {page}"
    shown = f"[{colour}]{finding.level:8}[/{colour}][bold]{finding.what:16}[/bold]{text}"
    out.print(shown, soft_wrap=True, highlight=False)
