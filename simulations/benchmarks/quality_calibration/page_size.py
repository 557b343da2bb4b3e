"""How large the quality page of a hospital gets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from client.quality.limits import QualityLimits
from client.quality.page import page_html
from client.quality.site_page import PageScan, SitePage
from client.quality.verdict import judge_scan
from simulations.benchmarks.quality_calibration.prepared_heads import PreparedHead


def page_megabytes(heads: Sequence[PreparedHead], scans: int = 200) -> float:
    """MB of the page of ``scans`` scans that look like one of the heads each, in turn."""
    shown = []
    for number in range(scans):
        head = heads[number % len(heads)]
        source = hashlib.sha256(b"%d" % number).hexdigest()
        verdict = judge_scan(head.measures, QualityLimits())
        shown.append(PageScan(source, f"sub-{number:04d}", "", head.measures, verdict, head.mosaic))
    return round(len(page_html(SitePage("calibration", tuple(shown))).encode()) / 1e6, 1)
