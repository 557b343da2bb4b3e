"""The parts of the quality page, as HTML; the styles and the script are in page.html."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from client.quality.admission import Use
from client.quality.catalogue import CATALOGUE
from client.quality.limits import Bounds, QualityLimits
from client.quality.mosaic import MASK_COLOUR, TEMPLATE_COLOUR
from client.quality.png import Colour, data_url
from client.quality.site_page import PageExclusion, PageScan
from client.quality.strips import Dot, strip
from client.quality.verdict import Reason

_TABLE = (
    "brain_ml", "dice", "correlation", "determinant", "rotation_degrees", "edge_cm2", "snr_white",
    "cnr", "cjv", "white_over_grey", "efc", "noise_percent", "smoothness_mm",
)  # fmt: skip
_COLUMNS = tuple(measured for measured in CATALOGUE if measured.name in _TABLE)
# Absolute paths, and relative ones of three parts or ending in a file.
_PART = r"[^\s/\\:;,'\"<>]+"
_PATH = re.compile(
    rf"(?<![\w./\\])(?:[A-Za-z]:)?(?:[/\\]{_PART})+[/\\]?"
    rf"|(?:{_PART}[/\\]){{2,}}{_PART}|{_PART}[/\\]{_PART}\.\w+"
)


def shown_text(text: str) -> str:
    """Escaped, and every path cut to its last part."""
    return escape(_PATH.sub(lambda m: re.split(r"[/\\]", m[0].rstrip("/\\"))[-1], text))


def summary(scans: Sequence[PageScan], excluded: Sequence[PageExclusion], use: Use) -> str:
    """Filter buttons with counts, and how many scans training gets."""
    counts = Counter(scan.verdict.result for scan in scans)
    used = sum(scan.refusal(use) is None for scan in scans)
    buttons = [("all", "all", len(scans)), *((r, r, counts[r]) for r in ("pass", "review", "fail"))]
    tiles = "".join(
        f'<button class="tile {kind}" data-filter="{kind}"><b>{count}</b>{name}</button>'
        for kind, name, count in buttons
    )
    rule = "scans that pass" if use == "pass" else "scans that pass, and those a person accepted"
    return (
        f'{tiles}<a class="tile excluded" href="#excluded"><b>{len(excluded)}</b>excluded</a>'
        f'<p class="used"><b>{used}</b> of {len(scans)} prepared scans are used for training '
        f"(the plan takes {rule}).</p>"
    )


def legend() -> str:
    """What the two outlines are."""
    return (
        f'<i style="background:{_css(MASK_COLOUR)}"></i>brain mask of the scan '
        f'<i style="background:{_css(TEMPLATE_COLOUR)}"></i>MNI152 brain'
    )


def reason_chips(scans: Sequence[PageScan], excluded: Sequence[PageExclusion]) -> str:
    """How often each reason occurs."""
    reasons = Counter(
        found for scan in scans for found in {(r.level, r.id) for r in scan.verdict.reasons}
    )
    chips = [
        f'<a class="{level}" href="#scans" data-search="{escape(name)}">{escape(name)} '
        f"<b>{count}</b></a>"
        for (level, name), count in sorted(reasons.items(), key=lambda item: (item[0][0], -item[1]))
    ]
    chips += [
        f'<a class="excluded" href="#excluded">{escape(code)} <b>{count}</b></a>'
        for code, count in sorted(Counter(e.code for e in excluded).items())
    ]
    return "".join(chips) or "nothing: every scan passes"


def scan_table(scans: Sequence[PageScan], use: Use) -> str:
    """Head and body of the sortable table."""
    names = ("subject", "session", "verdict", "used", "reasons", "voxel mm", "axes")
    head = "".join(f"<th>{name}</th>" for name in names)
    head += "".join(
        f'<th title="{escape(m.hint)}">{escape(m.title)}'
        f"{f'<small> {escape(m.unit)}</small>' if m.unit else ''}</th>"
        for m in _COLUMNS
    )
    body = "".join(_row(index, scan, use) for index, scan in enumerate(scans))
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"


def _row(index: int, scan: PageScan, use: Use) -> str:
    measures, header = scan.measures, scan.measures.header
    worst = {reason.measure: reason.level for reason in reversed(scan.verdict.reasons)}
    cells = [
        f"<td>{escape(scan.subject)}</td>",
        f"<td>{escape(scan.session)}</td>",
        f'<td class="{scan.verdict.result}">{scan.verdict.result}</td>',
        f"<td>{_used(scan, use)}</td>",
        f"<td>{escape(', '.join(r.id for r in scan.verdict.reasons))}</td>",
        f'<td data-v="{measures.thickest_mm}">'
        f"{' × '.join(f'{mm:.2f}' for mm in header.spacing_mm)}</td>",
        f"<td>{escape(header.orientation)}</td>",
    ]
    for measured in _COLUMNS:
        value = measured.value(measures)
        why = "" if value is not None else measures.absent.get(measured.name, "")
        shown = "n/a" if value is None else f"{value:.{measured.digits}f}"
        number = "" if value is None else f' data-v="{value:g}"'
        title = f' title="{shown_text(why)}"' if why else ""
        level = f' class="{worst[measured.name]}"' if measured.name in worst else ""
        cells.append(f"<td{level}{number}{title}>{shown}</td>")
    return f'<tr data-s="{index}" data-r="{scan.verdict.result}">{"".join(cells)}</tr>'


def cards(scans: Sequence[PageScan], use: Use) -> str:
    """A mosaic, the verdict and every measure per scan."""
    return "".join(_card(index, scan, use) for index, scan in enumerate(scans))


def _card(index: int, scan: PageScan, use: Use) -> str:
    measures, header = scan.measures, scan.measures.header
    who = escape(f"{scan.subject} {scan.session}".strip())
    reasons = "".join(_reason(reason) for reason in scan.verdict.reasons)
    refused = scan.refusal(use)
    used = "used for training" if refused is None else f"not used: {refused.code}"
    picture = '<p class="none">no picture: the scan was not registered</p>'
    if scan.mosaic is not None:
        picture = (
            f'<img loading="lazy" decoding="async" alt="slices of {who}" '
            f'src="{data_url(scan.mosaic)}">'
        )
    decision = ""
    if scan.override is not None:
        decision = (
            f'<p class="decision">a person decided: <b>{scan.override.decision}</b>, '
            f"“{shown_text(scan.override.why)}”</p>"
        )
    facts = (
        f"{header.orientation}, {' × '.join(map(str, header.shape))} voxels of "
        f"{' × '.join(f'{mm:.2f}' for mm in header.spacing_mm)} mm, field of view "
        f"{' × '.join(f'{mm:.0f}' for mm in header.field_of_view_mm)} mm, "
        f"{header.oblique_degrees:g}° oblique, {header.dtype}"
        f"{', stripped already' if measures.already_stripped else ''}"
    )
    values = "".join(
        f"<div data-m='{m.name}'><dt>{escape(m.title)}</dt><dd"
        f"{_why(measures.absent.get(m.name))}>{escape(m.shown(m.value(measures)))}</dd></div>"
        for m in CATALOGUE
    )
    return (
        f'<article id="s{index}" data-s="{index}" data-r="{scan.verdict.result}">'
        f'<header><h3>{who}</h3><span class="badge {scan.verdict.result}">'
        f"{scan.verdict.result}</span><span>{used}</span>"
        f"<code>{scan.source_sha256[:12]}</code></header>{picture}"
        f"<ul>{reasons}</ul>{decision}<details><summary>{escape(facts)}</summary>"
        f"<dl>{values}</dl></details></article>"
    )


def distributions(scans: Sequence[PageScan], limits: QualityLimits) -> str:
    """One strip per measure that any scan has."""
    drawn = []
    for measured in CATALOGUE:
        dots = [
            Dot(index, value, scan.verdict.result)
            for index, scan in enumerate(scans)
            if (value := measured.value(scan.measures)) is not None
        ]
        bounds = getattr(limits, measured.name, None)
        drawn.append(strip(measured, dots, bounds if isinstance(bounds, Bounds) else None))
    return "".join(drawn)


def exclusion_table(excluded: Sequence[PageExclusion]) -> str:
    """The rows of what was not prepared, by number."""
    rows = [
        f'<tr id="x{i}"><td>{escape(e.subject)}</td><td>{escape(e.session)}</td>'
        f"<td><code>{escape(e.code)}</code></td><td>{shown_text(e.what)}</td>"
        f"<td>{shown_text(e.remedy)}</td><td>docs/errors/{escape(e.code)}.md</td></tr>"
        for i, e in enumerate(sorted(excluded, key=lambda e: (e.code, e.subject, e.session)))
    ]
    return "".join(rows) or '<tr><td colspan="6">nothing was excluded</td></tr>'


def provenance_table(provenance: Mapping[str, str], limits: QualityLimits) -> str:
    """Versions and digests, and every limit with its source."""
    rows = [
        f"<tr><th>{escape(name)}</th><td>{shown_text(value)}</td></tr>"
        for name, value in provenance.items()
    ]
    for name, info in QualityLimits.model_fields.items():
        bounds = getattr(limits, name)
        if isinstance(bounds, Bounds):
            given = bounds.model_dump(exclude={"final"}, exclude_none=True)
            told = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in given.items())
        else:
            told = f"{bounds:g}"
        rows.append(
            f"<tr><th>{escape(name)}</th><td>{escape(told)} "
            f"<small>({escape(info.description or '')})</small></td></tr>"
        )
    return "".join(rows)


def _used(scan: PageScan, use: Use) -> str:
    used = "yes" if scan.refusal(use) is None else "no"
    return used if scan.override is None else f"{used}, {scan.override.decision}ed"


def _reason(reason: Reason) -> str:
    return (
        f'<li class="{reason.level}"><b>{escape(reason.id)}</b> {shown_text(reason.text)}'
        f"{' <small>(cannot be accepted)</small>' if reason.final else ''}</li>"
    )


def _why(reason: str | None) -> str:
    return f' title="{shown_text(reason)}"' if reason else ""


def _css(colour: Colour) -> str:
    return f"rgb{colour}".replace(" ", "")
