"""The patients as the simple baselines see them: demographics and region volumes, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SubjectTable:
    """N patients, R regions; nothing may be missing, and nothing is filled in.

    Attributes:
        classes: C class names in label order.
        regions: R region names.
        ids: patient ids.
        site: hospital of each patient.
        label: ``(N,)`` int64 class indices.
        age: ``(N,)`` years.
        sex: ``F`` or ``M`` per patient.
        volumes_ml: ``(N, R)`` region volumes, ml.
        icv_ml: ``(N,)`` intracranial volume, ml.

    Raises:
        SmrfedError: SMR-E691 where lengths disagree or a value is missing or impossible.
    """

    classes: tuple[str, ...]
    regions: tuple[str, ...]
    ids: tuple[str, ...]
    site: tuple[str, ...]
    label: npt.NDArray[np.int64]
    age: Floats
    sex: tuple[str, ...]
    volumes_ml: Floats
    icv_ml: Floats

    def __post_init__(self) -> None:
        n = len(self.ids)
        shapes = {
            "site": (len(self.site),) == (n,),
            "label": self.label.shape == (n,),
            "age": self.age.shape == (n,),
            "sex": (len(self.sex),) == (n,),
            "volumes_ml": self.volumes_ml.shape == (n, len(self.regions)),
            "icv_ml": self.icv_ml.shape == (n,),
        }
        problems = [f"{name} has the wrong shape" for name, right in shapes.items() if not right]
        if not problems:
            problems = self._impossible_values()
        if problems:
            raise SmrfedError(
                "SMR-E691",
                "the table of subjects for the baselines is not complete",
                found="; ".join(problems),
                expected=f"{n} rows, ages in years, sex F or M, volumes in ml above zero",
                remedy="leave the patients with missing values out, or complete participants.tsv",
            )

    def _impossible_values(self) -> list[str]:
        rows = {
            "age": ~((self.age > 0) & np.isfinite(self.age)),
            "label": (self.label < 0) | (self.label >= len(self.classes)),
            "sex": np.asarray([sex not in ("F", "M") for sex in self.sex], dtype=bool),
            "volumes_ml": ~((self.volumes_ml > 0) & np.isfinite(self.volumes_ml)).all(axis=1),
            "icv_ml": ~((self.icv_ml > 0) & np.isfinite(self.icv_ml)),
        }
        return [
            f"{name} of {', '.join(self.ids[i] for i in np.flatnonzero(bad)[:3])}"
            + (f" and {int(bad.sum()) - 3} more" if bad.sum() > 3 else "")
            for name, bad in rows.items()
            if bad.any()
        ]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, chosen: Sequence[int] | npt.NDArray[np.int64]) -> SubjectTable:
        """The table of some patients, by position, in the given order."""
        index = np.asarray(chosen, dtype=np.int64)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            site=tuple(self.site[i] for i in index),
            label=self.label[index],
            age=self.age[index],
            sex=tuple(self.sex[i] for i in index),
            volumes_ml=self.volumes_ml[index],
            icv_ml=self.icv_ml[index],
        )

    def at(self, *sites: str) -> SubjectTable:
        """The patients of these hospitals."""
        return self.rows([i for i, site in enumerate(self.site) if site in sites])


class FittedBaseline(Protocol):
    """A trained baseline."""

    def predict_proba(self, test: SubjectTable) -> Floats:
        """Class probabilities ``(N, C)``, rows summing to one."""
        ...


class Baseline(Protocol):
    """A recipe that is fixed before any data is seen."""

    def fit(self, train: SubjectTable) -> FittedBaseline:
        """Train on these patients alone; deterministic."""
        ...
