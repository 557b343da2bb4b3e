"""What the quality page is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from client.quality.admission import Refusal, Use, refusal
from client.quality.limits import QualityLimits
from client.quality.overrides import Override
from client.quality.scan_measures import ScanMeasures
from client.quality.verdict import Verdict


@dataclass(frozen=True)
class PageScan:
    """One prepared scan on the page.

    Attributes:
        source_sha256: of its file; its first 12 digits name it to a person.
        subject, session: pseudonymous, as in the BIDS dataset; session may be empty.
        measures: what was measured.
        verdict: what follows.
        mosaic: PNG of :func:`client.quality.mosaic.scan_mosaic`; None shows a note instead.
        override: the latest decision about it.
    """

    source_sha256: str
    subject: str
    session: str
    measures: ScanMeasures
    verdict: Verdict
    mosaic: bytes | None = None
    override: Override | None = None

    def refusal(self, use: Use) -> Refusal | None:
        """Why training does not get the scan; None where it does."""
        return refusal(self.verdict, self.override, use)


@dataclass(frozen=True)
class PageExclusion:
    """One scan, row or subject that takes no part: number, what is wrong, and the remedy."""

    code: str
    what: str
    remedy: str
    subject: str = ""
    session: str = ""


@dataclass(frozen=True)
class SitePage:
    """Everything on the page.

    Attributes:
        site: the hospital's name in the federation.
        scans: prepared scans.
        excluded: what was not prepared.
        use: what the plan lets into training.
        limits: what the verdicts were made with.
        provenance: e.g. plan digest, versions of the steps; label to value.
    """

    site: str
    scans: tuple[PageScan, ...]
    excluded: tuple[PageExclusion, ...] = ()
    use: Use = "pass"
    limits: QualityLimits = field(default_factory=QualityLimits)
    provenance: Mapping[str, str] = field(default_factory=dict)
