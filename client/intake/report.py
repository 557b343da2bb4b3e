"""What an intake did, and why: pseudonyms, numbers and our own words only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from client.archive.problems import Exclusion, Problem

_KINDS = {kind.code: kind for kind in Problem}


@dataclass(frozen=True)
class SeriesReport:
    """One series: its number at the scanner, its rank, and why.

    ``rank`` is native, derived, after_contrast or refused; ``score`` counts within a rank.
    """

    number: int
    files: int
    chosen: bool
    rank: str
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SessionReport:
    """One study of a patient; ``image`` is relative to the dataset, None where there is none."""

    subject: str
    session: str
    image: str | None
    age: str | None
    series: tuple[SeriesReport, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class IntakeReport:
    """The whole intake.

    Attributes:
        dicom_files: read; files of other kinds are not counted as problems.
        other_files: looked at and found to be no DICOM.
        sessions: every study with MR series, by subject and session.
        exclusions: what takes no part; subjects are pseudonyms, and there are no paths.
        warnings: about the whole.
        converted: scans that were converted now; ``kept`` were there already.
        rows_without_images: patients of the clinical table without DICOM files.
    """

    dicom_files: int
    other_files: int
    sessions: tuple[SessionReport, ...]
    exclusions: tuple[Exclusion, ...]
    warnings: tuple[str, ...]
    converted: int
    kept: int
    rows_without_images: int

    @property
    def images(self) -> int:
        """Scans in the dataset."""
        return sum(session.image is not None for session in self.sessions)

    def to_json(self) -> dict[str, Any]:
        """JSON values, for :meth:`from_json`."""
        out = asdict(self)
        out["exclusions"] = [
            {"code": e.code, "case": e.case, "subject": e.subject, "session": e.session}
            for e in self.exclusions
        ]
        return out

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> IntakeReport:
        """The report that was written; raises KeyError or TypeError for anything else."""
        sessions = [
            SessionReport(
                **{
                    **session,
                    "series": tuple(
                        SeriesReport(**{**one, "reasons": tuple(one["reasons"])})
                        for one in session["series"]
                    ),
                    "warnings": tuple(session["warnings"]),
                }
            )
            for session in content["sessions"]
        ]
        exclusions = [
            Exclusion(_KINDS[e["code"]], e["case"], e["subject"], e["session"])
            for e in content["exclusions"]
        ]
        return cls(
            **{
                **content,
                "sessions": tuple(sessions),
                "exclusions": tuple(exclusions),
                "warnings": tuple(content["warnings"]),
            }
        )
