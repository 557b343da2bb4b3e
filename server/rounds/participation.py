"""Whose patients are in a model: in how many rounds each hospital counted, and who fell out.

Participation, weights and declared numbers are public: nothing here is patient data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from server.checkpoints.run_directory import RunDirectory
from server.enrolment.additions import current_plan
from server.rounds.records import RoundRecord
from shared_model.plan import FederationPlan

# Fewer than so many of the rounds are worth a warning, as are so many missed at the end.
_FEW, _LAST = 0.8, 2


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteShare(_Record):
    """How one hospital took part."""

    site: str
    declared_patients: int
    share: float = Field(description="of the declared patients of all hospitals, 0 to 1")
    asked: int = Field(description="rounds since it joined: all, unless it was added later")
    rounds: int = Field(description="in which its update counted")
    last_round: int | None = Field(description="the last one of them")
    missing: int = Field(description="rounds at the end in a row in which it did not count")
    reason: str | None = Field(description="why it did not count when it last did not")


class Participation(_Record):
    """All hospitals of a run; ``contributed`` has the declared patients behind every round."""

    rounds: int
    declared_patients: int
    sites: tuple[SiteShare, ...]
    contributed: tuple[int, ...]
    warnings: tuple[str, ...]
    void: int = Field(default=0, description="rounds of a secure sum in which nothing was opened")

    @property
    def in_words(self) -> str:
        """One sentence about all rounds."""
        if not self.rounds:
            return (
                f"no round counted; {self.void} void" if self.void else "no round was completed yet"
            )
        return self._counted + (f"; {self.void} more were void" if self.void else "")

    @property
    def _counted(self) -> str:
        always = [one for one in self.sites if one.rounds == self.rounds > 0]
        least, mean = min(self.contributed), sum(self.contributed) / self.rounds
        rounds = f"{self.rounds} round{'s' * (self.rounds != 1)}"
        if len(always) == len(self.sites):
            return (
                f"all {len(self.sites)} hospitals, with {self.declared_patients} declared "
                f"patients, counted in all of {rounds}"
            )
        return (
            f"{len(always)} of {len(self.sites)} hospitals counted in all of {rounds}; of "
            f"{self.declared_patients} declared patients {mean:.0f} stood behind a round on "
            f"average, {least} at least"
        )


def participation(run: RunDirectory) -> Participation:
    """As far as the run is; raises SMR-E532 when no checkpoint can be read."""
    return participation_of(current_plan(run), run.latest().history)


def participation_of(plan: FederationPlan, history: Sequence[RoundRecord]) -> Participation:
    """Of the rounds of training in ``history`` that were not void."""
    trained = [record for record in history if record.kind == "train"]
    rounds = [record for record in trained if record.void is None]
    declared = {one.name: one.declared_patients for one in plan.federation.sites}
    total = sum(declared.values())
    sites = tuple(_share(name, declared[name], total, rounds) for name in declared)
    return Participation(
        rounds=len(rounds),
        declared_patients=total,
        sites=sites,
        contributed=tuple(sum(declared.get(s, 0) for s in r.accepted) for r in rounds),
        warnings=tuple(_warnings(sites, rounds)),
        void=len(trained) - len(rounds),
    )


def share_in_words(sites: Sequence[str], plan: FederationPlan) -> str:
    """``2 of 3 hospitals, with 70 % of the declared patients``."""
    declared = {one.name: one.declared_patients for one in plan.federation.sites}
    share = sum(declared.get(site, 0) for site in sites) / sum(declared.values())
    return (
        f"{len(sites)} of {len(declared)} hospitals, with {percent(share)} of the declared patients"
    )


def percent(share: float) -> str:
    """``41 %``; what is not all is never rounded to all, nor something to nothing."""
    shown = min(max(round(100 * share), 1), 99) if 0 < share < 1 else round(100 * share)
    return f"{shown} %"


def _share(name: str, declared: int, total: int, rounds: Sequence[RoundRecord]) -> SiteShare:
    first = next((i for i, record in enumerate(rounds) if name in record.sites), 0)
    rounds = rounds[first:]
    counted = [record.round for record in rounds if name in record.accepted]
    missing = 0
    for record in reversed(rounds):
        if name in record.accepted:
            break
        missing += 1
    why = [record.set_aside[name] for record in rounds if name in record.set_aside]
    return SiteShare(
        site=name,
        declared_patients=declared,
        share=declared / total,
        asked=len(rounds),
        rounds=len(counted),
        last_round=counted[-1] if counted else None,
        missing=missing,
        reason=why[-1] if why else None,
    )


def _warnings(sites: Sequence[SiteShare], rounds: Sequence[RoundRecord]) -> Iterator[str]:
    if not rounds:
        return
    sizes = [one.declared_patients for one in sites]
    largest = max(sizes)
    for one in sorted(sites, key=lambda site: -site.declared_patients):
        who = f"{one.site} ({percent(one.share)} of the declared patients"
        alone = one.declared_patients == largest and sizes.count(largest) == 1
        who += ", the largest hospital)" if alone else ")"
        why = f": {one.reason}" if one.reason else ""
        if not one.rounds:
            yield f"{who} counted in none of {one.asked} rounds{why}"
        elif one.missing >= _LAST:
            yield (
                f"{who} counted in {one.rounds} of {one.asked} rounds and in none after round "
                f"{one.last_round}{why}"
            )
        elif one.rounds < _FEW * one.asked:
            yield f"{who} counted in {one.rounds} of {one.asked} rounds only{why}"
