"""What is said about one scan, in the same words on the page and in the PDF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.explanation.findings import Findings
from client.explanation.overlay import Overlay
from shared_model.atlas.atlas import Atlas
from shared_model.explanation.norms import percentile
from shared_model.smrnet.tokens import PLANES

STAYS = "Must not leave this hospital: this page shows one person's scan."
WORDING = "Regions that drove this model's output"
NO_DIAGNOSIS = (
    "Not a diagnosis, and not calibrated for this hospital. What follows shows what drove this "
    "output of this model; it does not show that pathology was found there."
)
EVEN_MAP = "The map is even or empty: no region drove this output, and the order says nothing."


@dataclass(frozen=True, eq=False)
class Subject:
    """What is said about scan and model.

    Attributes:
        title: of the scan; ``model`` of the model, ``sha256`` its digest; ``personal`` whether the
            hospital's own parameters were used; ``command`` that made the page.
        age, sex: as known.
    """

    title: str
    model: str
    sha256: str
    personal: bool
    command: str
    age: float | None
    sex: str | None

    def model_line(self) -> str:
        """The model with its digest, and the command that was run."""
        return f"{self.model} ({self.sha256[:12]}), {self.command}"


def prediction_rows(findings: Findings) -> list[tuple[str, str, str]]:
    """Class, probability, and the range over the shifted copies."""
    sure = findings.certainty
    return [
        (label, f"{p:.2f}", f"{low:.2f} to {high:.2f}")
        for label, p, low, high in zip(
            findings.labels, sure.probabilities, sure.lowest, sure.highest, strict=True
        )
    ]


def known(subject: Subject, findings: Findings) -> list[tuple[str, str]]:
    """What is known of prediction, person and parameters, by name."""
    sure = findings.certainty
    found = [
        ("Explained class", findings.labels[findings.target]),
        ("Uncertainty", f"{sure.entropy:.2f} of 1 (entropy; 1 would be no information)"),
        ("Age, sex", f"{_or(subject.age, '.0f')}, {subject.sex or 'not known'}"),
        ("Parameters", "with this hospital's own" if subject.personal else "as released"),
    ]
    if sure.deviation is not None:
        found.append(
            (
                "Distance from the public reference",
                f"{sure.deviation:.2f} (log root mean square of the tokens; a scan far from it is "
                "one that the model has not learnt on)",
            )
        )
    return found


def contribution_meaning(findings: Findings) -> str:
    """What the sign of a region's contribution says."""
    label = findings.labels[findings.target]
    return f"A contribution above zero spoke for {label}, one below it against, in logits."


def positions(drawn: Overlay) -> str:
    """Where the slices of a picture lie."""
    return "MNI152: " + "; ".join(
        f"{plane} {', '.join(f'{mm:.0f}' for mm in drawn.position_mm[plane])} mm"
        for plane in PLANES
    )


def volume_rows(findings: Findings, atlas: Atlas, most: int) -> list[tuple[str, str, str, str]]:
    """Region, ml, z and percentile: the most unusual first, or the largest without a reference."""
    found = findings.volumes
    order = np.argsort(-found.ml if found.z is None else -np.abs(found.z), kind="stable")
    return [
        (
            atlas.names[i].replace("_", " "),
            f"{found.ml[i]:.2f}",
            "" if found.z is None else f"{found.z[i]:+.1f}",
            "" if found.z is None else f"{percentile(float(found.z[i])):.0f}",
        )
        for i in order[:most]
    ]


def volume_reference(findings: Findings, reference: str) -> str:
    """What the deviations are measured against, or why there are none."""
    found = findings.volumes
    if found.z is None:
        return f"No z-scores: {found.why_not}."
    return f"Deviations for age and sex. Reference: {reference}."


def _or(value: float | None, form: str) -> str:
    return "not known" if value is None else format(value, form)
