"""All hospitals: registered, connected now, and in which runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from server.dashboard.catalogue import Summary
from server.dashboard.connected import Connected
from server.dashboard.registered import RegisteredSite
from server.dashboard.run_files import tail_lines
from server.dashboard.words import moment
from server.receipts.book import FILE
from shared_model.evaluation import html
from shared_model.local_page.table import Field, stack, tag

_TAIL_BYTES = 16 << 10


@dataclass(frozen=True)
class KnownSite:
    """One hospital; ``connected`` is None where nobody can tell."""

    name: str
    registered: RegisteredSite | None
    connected: bool | None
    runs: tuple[str, ...]
    last_seen: str | None


def known_sites(
    registered: Sequence[RegisteredSite], connected: Connected, summaries: Sequence[Summary]
) -> tuple[KnownSite, ...]:
    """Everybody who is registered, or in a plan, or connected."""
    by_name = {site.name: site for site in registered}
    runs: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for summary in summaries:
        if summary.files is None:
            continue
        for site in summary.files.weights:
            runs.setdefault(site, []).append(summary.name)
        for site, time in _last_replies(summary.files.path).items():
            seen[site] = max(time, seen.get(site, ""))
    names = sorted({*by_name, *runs, *(connected.sites or ())})
    return tuple(
        KnownSite(
            name=name,
            registered=by_name.get(name),
            connected=None if connected.sites is None else name in connected.sites,
            runs=tuple(runs.get(name, ())),
            last_seen=seen.get(name),
        )
        for name in names
    )


def sites_sections(
    sites: Sequence[KnownSite], connected: Connected, registry_problem: str | None
) -> list[str]:
    """The sections of the page."""
    if connected.sites is None:
        told = f"Who is connected is not known: {connected.why}."
    else:
        told = f"{len(connected.sites)} connected, asked at {moment(connected.at, seconds=True)}."
    notes = html.paragraph(told, "note")
    if registry_problem is not None:
        notes += html.paragraph(f"Registry: {registry_problem}.", "note")
    if not sites:
        none = html.paragraph("No hospital is known yet.")
        return [f'<section id="sites">{notes}{none}</section>']
    header = ("hospital", "connected", "registered", "signing key", "last reply", "runs")
    table = stack(header, [_row(site) for site in sites], "All hospitals")
    return [f'<section id="sites">{notes}{table}</section>']


def sites_facts(
    sites: Sequence[KnownSite], connected: Connected, registry_problem: str | None
) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "sites": [asdict(site) for site in sites],
        "connected_asked_at": connected.at.isoformat(timespec="seconds"),
        "connected_problem": connected.why or None,
        "registry_problem": registry_problem,
    }


def _row(site: KnownSite) -> list[Field | str]:
    link = {None: ("unknown", "idle"), True: ("connected", "good"), False: ("away", "bad")}
    state = Field("not registered")
    if site.registered is not None:
        version = site.registered.protocol_version
        state = Field(
            site.registered.state,
            f"since {moment(site.registered.changed_at)}"
            + (f", protocol {version}" if version is not None else ""),
        )
    shown = ", ".join(site.runs[:5]) + (f" and {len(site.runs) - 5} more" if site.runs[5:] else "")
    key = site.registered.fingerprint if site.registered is not None else None
    return [
        site.name,
        Field(drawn=tag(*link[site.connected])),
        state,
        Field(key or "", left=True),
        moment(site.last_seen) if site.last_seen else "",
        Field(shown, left=True),
    ]


def _last_replies(run: Path) -> dict[str, str]:
    """Site -> time of its newest authentic reply among the last receipts, not verified here."""
    found: dict[str, str] = {}
    for line in tail_lines(run / FILE, _TAIL_BYTES):
        try:
            said = json.loads(line)
            if said["authentic"]:
                found[str(said["received"]["site"])] = str(said["time"])
        except (ValueError, KeyError, TypeError):
            continue
    return found
