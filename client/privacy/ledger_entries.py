"""What the ledger's events amount to, gathered one event at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from client.privacy.per_patient import Charge
from shared_model.privacy.accounting import MechanismUse
from shared_model.privacy.plan_cost import Purpose

State = Literal["reserve", "commit", "seal"]


@dataclass(frozen=True)
class LedgerEntry:
    """One reservation: which release of which plan used which mechanism, and how far it came.

    ``reserve``: charged, nothing released yet; ``commit``: computed; ``seal``: the reply with
    ``reply_sha256`` may leave. Every entry counts in full, whatever its state, for every patient of
    its ``cohort`` (a digest over keyed hashes; ``patients`` of them).
    """

    id: int
    time: str
    run_id: str
    round: int
    purpose: Purpose
    plan_digest: str
    use: MechanismUse
    state: State
    cohort: str
    patients: int
    reply_sha256: str


class Gathered:
    """All reservations in order, each with its latest state; grows with them."""

    def __init__(self) -> None:
        self.entries: dict[int, LedgerEntry] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Note the next event."""
        known = self.entries.get(event["reservation"])
        self.entries[event["reservation"]] = _entry(event, known)


class LastOfRound:
    """The newest reservation of one release, and whether any of them was sealed."""

    def __init__(self, run_id: str, round_number: int, purpose: str) -> None:
        self._place = run_id, round_number, purpose
        self.entry: LedgerEntry | None = None
        self.sealed = False

    def take(self, event: Mapping[str, Any]) -> None:
        """Note the next event."""
        if (event["run"], event["round"], event["purpose"]) != self._place:
            return
        self.sealed = self.sealed or event["state"] == "seal"
        known = self.entry
        if known is None or event["reservation"] > known.id:
            self.entry = _entry(event, None)
        elif event["reservation"] == known.id:
            self.entry = _entry(event, known)


class Charged:
    """Steps by plan, cohort and mechanism; ``until``: up to and with this reservation."""

    def __init__(self, until: int | None = None) -> None:
        self._until = until
        self._steps: Counter[tuple[str, str, float, float]] = Counter()

    def take(self, event: Mapping[str, Any]) -> None:
        """Note the next event: a reservation counts in full from the first of them on."""
        if event["state"] != "reserve":
            return
        if self._until is None or event["reservation"] <= self._until:
            place = event["plan"], event["cohort"], event["noise_multiplier"]
            self._steps[*place, event["sampling_rate"]] += event["steps"]

    def charges(self, plan_digest: str | None) -> list[Charge]:
        """One charge for each cohort and mechanism: of one plan, or of all."""
        return [
            Charge(cohort, MechanismUse(noise, rate, steps))
            for (plan, cohort, noise, rate), steps in self._steps.items()
            if plan_digest in (None, plan)
        ]


def _entry(event: Mapping[str, Any], known: LedgerEntry | None) -> LedgerEntry:
    return LedgerEntry(
        id=event["reservation"],
        time=event["time"] if known is None else known.time,
        run_id=event["run"],
        round=event["round"],
        purpose=event["purpose"],
        plan_digest=event["plan"],
        use=MechanismUse(event["noise_multiplier"], event["sampling_rate"], event["steps"]),
        state=event["state"],
        cohort=event["cohort"],
        patients=event["patients"],
        reply_sha256=event["reply_sha256"],
    )
