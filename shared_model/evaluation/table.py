"""Predictions of one arm, one row per patient: what every figure of an evaluation comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Texts = tuple[str | None, ...]

#: What is known of a patient with mild cognitive impairment after 36 months: progressed, stable,
#: or unknown (not followed up long enough, or reverted).
PROGRESSION = ("pMCI", "sMCI", "uMCI")
# Files of four digits still sum to one.
_SUM_TOLERANCE = 1e-3
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """N patients with the class probabilities that one arm gives them.

    Attributes:
        labels: C class names in the order of the probabilities.
        patient: N identifiers, each once; unique over sites (``site/patient``).
        site: hospital of each patient.
        label: ``(N,)`` true class, an index into ``labels``.
        probability: ``(N, C)``, rows summing to one within 0.001.
        seen: ``(N,)`` whether the hospital took part in the training of this arm.
        sex: ``F``, ``M``, ``O`` or None.
        age: ``(N,)`` years, NaN where unknown.
        field_strength_t: ``(N,)`` tesla, NaN where unknown.
        vendor: of the scanner, or None.
        progression: ``pMCI``, ``sMCI``, ``uMCI``, or None for everybody else.
        scans: ``(N,)`` scans behind the row.

    Raises:
        SmrfedError: SMR-E610 without rows, SMR-E612 for a value that cannot be, SMR-E613 for a
            patient that occurs twice.
    """

    labels: tuple[str, ...]
    patient: tuple[str, ...]
    site: tuple[str, ...]
    label: Ints
    probability: Floats
    seen: Bools
    sex: Texts = ()
    age: Floats = field(default_factory=lambda: np.empty(0))
    field_strength_t: Floats = field(default_factory=lambda: np.empty(0))
    vendor: Texts = ()
    progression: Texts = ()
    scans: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __post_init__(self) -> None:
        n = len(self.patient)
        for name in ("sex", "vendor", "progression"):
            if not getattr(self, name):
                object.__setattr__(self, name, (None,) * n)
        for name in ("age", "field_strength_t"):
            if getattr(self, name).size == 0:
                object.__setattr__(self, name, np.full(n, np.nan))
        if self.scans.size == 0:
            object.__setattr__(self, "scans", np.ones(n, dtype=np.int64))
        self._check()

    def __len__(self) -> int:
        return len(self.patient)

    @property
    def sites(self) -> tuple[str, ...]:
        """Hospitals in the order of the rows."""
        return tuple(dict.fromkeys(self.site))

    @property
    def seen_sites(self) -> tuple[str, ...]:
        """Hospitals that took part in the training of this arm."""
        return tuple(dict.fromkeys(s for s, seen in zip(self.site, self.seen, strict=True) if seen))

    @property
    def unseen_sites(self) -> tuple[str, ...]:
        """Hospitals that took no part."""
        rows = zip(self.site, self.seen, strict=True)
        return tuple(dict.fromkeys(s for s, seen in rows if not seen))

    def rows(self, chosen: Sequence[int] | Ints | Bools) -> PredictionTable:
        """The table of some patients, by position or mask, in that order."""
        index = np.arange(len(self))[np.asarray(chosen)]
        texts: dict[str, Any] = {
            name: tuple(getattr(self, name)[i] for i in index)
            for name in ("patient", "site", "sex", "vendor", "progression")
        }
        numbers: dict[str, Any] = {
            name: getattr(self, name)[index]
            for name in ("label", "probability", "seen", "age", "field_strength_t", "scans")
        }
        return replace(self, **texts, **numbers)

    def at(self, *sites: str) -> PredictionTable:
        """The patients of these hospitals; raises SMR-E610 where there are none."""
        return self.rows(np.array([site in sites for site in self.site], dtype=bool))

    def in_order_of(self, other: PredictionTable) -> PredictionTable:
        """The same patients in another table's order; raises SMR-E614 where they are others."""
        place = {patient: row for row, patient in enumerate(self.patient)}
        if len(self) != len(other) or any(patient not in place for patient in other.patient):
            raise other_patients(sorted(set(self.patient) ^ set(other.patient)))
        ordered = self.rows([place[patient] for patient in other.patient])
        differ = [
            patient
            for patient, *pairs in zip(
                ordered.patient,
                zip(ordered.site, other.site, strict=True),
                zip(ordered.label, other.label, strict=True),
                zip(ordered.seen, other.seen, strict=True),
                strict=True,
            )
            if any(here != there for here, there in pairs)
        ]
        if differ:
            told = [f"{patient} (site, diagnosis, or seen and unseen)" for patient in differ]
            raise other_patients(told)
        return ordered

    def _check(self) -> None:
        n, c = len(self.patient), len(self.labels)
        if n == 0:
            raise SmrfedError(
                "SMR-E610",
                "a table of predictions has no patient",
                expected="at least one row",
                found="none",
                remedy="look at the program that wrote it; a hospital without test patients is "
                "left out of the table",
            )
        lengths = {
            name: len(getattr(self, name))
            for name in ("site", "label", "seen", "sex", "age", "vendor", "progression", "scans")
        }
        if set(lengths.values()) != {n} or self.probability.shape != (n, c) or c < 2:
            raise bad_value(
                [f"{lengths} rows and probabilities {self.probability.shape}"],
                f"{n} of each, and ({n}, {c}) probabilities of at least two classes",
            )
        twice = sorted(p for p, count in _counts(self.patient).items() if count > 1)
        if twice:
            raise SmrfedError(
                "SMR-E613",
                "a patient stands in a table of predictions more than once",
                expected="one row per patient, whatever the number of scans",
                found=_some(twice),
                remedy="average the scans of a patient's visit first (PredictionTable.from_scans), "
                "and name patients site/patient when hospitals number them alike",
            )
        problems = [*self._impossible()]
        if problems:
            raise bad_value(problems)

    def _impossible(self) -> list[str]:
        p = self.probability
        wrong = {
            "probabilities that are not numbers in 0..1": ~(
                np.isfinite(p) & (p >= 0) & (p <= 1 + _SUM_TOLERANCE)
            ).all(1),
            "probabilities that do not sum to one": ~(
                np.abs(np.nan_to_num(p).sum(1) - 1) <= _SUM_TOLERANCE
            ),
            f"a class outside {', '.join(self.labels)}": (self.label < 0)
            | (self.label >= len(self.labels)),
            "an impossible age": ~(np.isnan(self.age) | ((self.age > 0) & (self.age <= 120))),
            "an impossible field strength": ~(
                np.isnan(self.field_strength_t)
                | ((self.field_strength_t > 0) & (self.field_strength_t < 30))
            ),
            "a sex other than F, M, O": np.array(
                [s not in (None, "F", "M", "O") for s in self.sex]
            ),
            f"a progression other than {', '.join(PROGRESSION)}": np.array(
                [s is not None and s not in PROGRESSION for s in self.progression]
            ),
            "no scan": self.scans < 1,
        }
        found = [
            f"{what}: {_some([self.patient[i] for i in np.flatnonzero(rows)])}"
            for what, rows in wrong.items()
            if rows.any()
        ]
        mixed = [
            site
            for site in self.sites
            if len({bool(s) for s, at in zip(self.seen, self.site, strict=True) if at == site}) > 1
        ]
        return found + ([f"seen and unseen at one site: {_some(mixed)}"] if mixed else [])

    @classmethod
    def from_scans(cls, scans: PredictionTable, person: Sequence[str]) -> PredictionTable:
        """One row per patient out of a table of scans: the mean probability over a visit's scans.

        Args:
            scans: one row per scan, named uniquely (``patient`` holds the scan's name).
            person: whose scan each row is. Site, label and facts are those of the person's first
                row; raises SMR-E612 where the scans of a person disagree about site or label.
        """
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(person):
            rows.setdefault(name, []).append(row)
        torn = [
            name
            for name, own in rows.items()
            if len({(scans.site[i], int(scans.label[i])) for i in own}) > 1
        ]
        if torn:
            raise bad_value([f"scans of one visit with two sites or labels: {_some(torn)}"])
        first = scans.rows([own[0] for own in rows.values()])
        return replace(
            first,
            patient=tuple(rows),
            probability=np.stack([scans.probability[own].mean(0) for own in rows.values()]),
            scans=np.array([scans.scans[own].sum() for own in rows.values()], dtype=np.int64),
        )

    @classmethod
    def join(cls, parts: Sequence[PredictionTable]) -> PredictionTable:
        """The patients of several tables one after another; raises SMR-E613 and SMR-E614."""
        first = parts[0]
        for part in parts[1:]:
            if part.labels != first.labels:
                raise other_classes(first.labels, part.labels)
        texts: dict[str, Any] = {
            name: tuple(value for part in parts for value in getattr(part, name))
            for name in ("patient", "site", "sex", "vendor", "progression")
        }
        numbers: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("label", "probability", "seen", "age", "field_strength_t", "scans")
        }
        return replace(first, **texts, **numbers)

    @classmethod
    def leave_one_site_out(cls, folds: Sequence[PredictionTable]) -> PredictionTable:
        """One arm over several federations, each of which left another hospital out.

        Every patient is taken from the fold whose model never saw the hospital, so all rows are
        unseen. Raises SMR-E610 where nobody is, SMR-E613 where two folds left the same one out.
        """
        return cls.join([fold.rows(~fold.seen) for fold in folds])


def other_patients(differing: Sequence[str]) -> SmrfedError:
    """SMR-E614: figures on different patients cannot be compared."""
    return SmrfedError(
        "SMR-E614",
        "two arms were not evaluated on the same patients",
        expected="the same patients, with the same diagnosis, at every site that both arms cover",
        found=f"{len(differing)} that differ: {_some(differing)}",
        remedy="predict the same test patients with every arm; leave a site out of an arm as a "
        "whole where the arm has no model for it",
    )


def other_classes(ours: Sequence[str], theirs: Sequence[str]) -> SmrfedError:
    """SMR-E614 for tables with other classes."""
    return SmrfedError(
        "SMR-E614",
        "two tables do not have the same classes",
        expected=", ".join(ours),
        found=", ".join(theirs),
        remedy="write the p_ columns of every arm for the same classes in the same order",
    )


def bad_value(problems: Sequence[str], expected: str | None = None) -> SmrfedError:
    """SMR-E612."""
    return SmrfedError(
        "SMR-E612",
        "a table of predictions holds values that cannot be",
        expected=expected or "probabilities that sum to one, a known class, and possible facts",
        found="; ".join(problems),
        remedy="correct the program that wrote the table; pass probabilities (after softmax), not "
        "logits, and leave unknown facts empty",
    )


def _counts(names: Sequence[str]) -> dict[str, int]:
    out: dict[str, int] = {}
    for name in names:
        out[name] = out.get(name, 0) + 1
    return out


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
