"""Which scans training may use, given verdicts and what people decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from client.quality.overrides import Override
from client.quality.verdict import Verdict

#: What the plan lets in: what passes, or also what a person has accepted.
Use = Literal["pass", "approved"]

_SEVERITY = {"pass": 0, "review": 1, "fail": 2}


@dataclass(frozen=True)
class Refusal:
    """Why a prepared scan is not used for training; numbered like an error."""

    code: str
    what: str
    remedy: str


def refusal(verdict: Verdict, override: Override | None, use: Use) -> Refusal | None:
    """None for a scan that may be used.

    A rejection always holds. An acceptance holds where the plan lets accepted scans in, and only
    for a verdict no worse than the one that the person saw.

    Args:
        verdict: the scan's, as of now.
        override: the latest decision about exactly this file.
        use: what the plan lets in.
    """
    if override is not None and override.decision == "reject":
        return Refusal(
            "SMR-E276",
            "a person rejected the scan",
            "nothing, or accept it with smrfed-site if the decision was wrong",
        )
    if verdict.result == "pass":
        return None
    accepted = (
        override is not None
        and not verdict.final
        and _SEVERITY[verdict.result] <= _SEVERITY[override.seen]
    )
    if accepted and use == "approved":
        return None
    reasons = ", ".join(reason.id for reason in verdict.reasons)
    if verdict.result == "fail":
        return Refusal(
            "SMR-E274",
            f"the scan failed quality control: {reasons}",
            "look at it on the quality page; mend the scan and prepare it again"
            + ("" if verdict.final or use == "pass" else ", or accept it with a reason"),
        )
    return Refusal(
        "SMR-E275",
        f"the scan needs a person's review: {reasons}",
        "look at it on the quality page, then accept or reject it"
        if use == "approved"
        else "the plan takes only scans that pass; mend the scan and prepare it again",
    )
