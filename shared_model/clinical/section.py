"""Which clinical variables a plan uses, and the public constants that encode them; no torch."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]

#: imaging-only: none. without-cognition: nothing that diagnoses are made from. with-mmse: cognitive
#: tests too; what a model gains by them is reported apart, because they define the label.
ClinicalMode = Literal["imaging-only", "without-cognition", "with-mmse"]

#: Beginnings of names of cognitive tests: part of how CN, MCI and AD are told apart.
COGNITION = (
    "mmse", "mini_mental", "moca", "adas", "adni_mem", "adni_ef", "ravlt", "avlt", "trail", "cerad",
    "faq", "logical_memory", "npi", "fluency", "digit_span", "boston", "clock", "memory", "cogn",
    "neuropsych",
)  # fmt: skip
#: Beginnings of names of what is the label, or is made of it: never an input.
LABEL = (
    "cdr", "diagnos", "dx", "group", "label", "progress", "conver", "stage", "impression", "gds_",
)  # fmt: skip


class ClinicalVariable(BaseModel):
    """One variable. The constants are public: a site never fits them to its patients.

    A number x becomes ``((x - mean) / sd, 0)``, and ``(0, 1)`` where it is missing. A category
    becomes one number for each of ``categories``, one for any other word, and one for missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: VariableName = Field(description="the hospital's column, unless its site.toml maps it")
    kind: Literal["number", "category"] = "number"
    unit: str = Field(default="", description="for people")
    mean: float = Field(default=0.0, description="public centre, in the unit")
    sd: float = Field(default=1.0, gt=0, description="public spread, in the unit")
    lowest: float = Field(default=-1e9, description="values below are refused, in the unit")
    highest: float = Field(default=1e9, description="values above are refused, in the unit")
    categories: tuple[str, ...] = Field(default=(), description="words, upper and lower case alike")

    @property
    def width(self) -> int:
        """Numbers that the variable is encoded in."""
        return 2 if self.kind == "number" else len(self.categories) + 2

    @property
    def is_cognition(self) -> bool:
        """Whether it is a cognitive test by its name."""
        return _begins(self.name, COGNITION)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "number" and self.categories:
            raise ValueError(f"{self.name}: a number has no categories")
        if self.kind == "category":
            words = [word.strip().casefold() for word in self.categories]
            if not words or len(set(words)) != len(words) or "" in words or "n/a" in words:
                raise ValueError(f"{self.name}: needs different categories, none of them 'n/a'")
        if not self.lowest < self.highest:
            raise ValueError(f"{self.name}: lowest is not below highest")
        return self


class ClinicalSection(BaseModel):
    """Clinical inputs of a plan. Without ``variables`` a mode takes the default set.

    By their names, cognitive tests are refused outside mode ``with-mmse``, and what is the label
    itself (CDR, a diagnosis) in every mode. Limit: a hospital that maps its CDR column to the name
    ``education`` is not found out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: ClinicalMode = Field(
        default="imaging-only",
        description="imaging-only: no clinical inputs; without-cognition; with-mmse: cognitive "
        "tests as well, which define the label",
    )
    variables: tuple[ClinicalVariable, ...] = Field(
        default=(), description="empty: the default set of the mode (docs/multimodal.md)"
    )

    @property
    def used(self) -> tuple[ClinicalVariable, ...]:
        """The variables in the order of the encoding."""
        if self.mode == "imaging-only":
            return ()
        if self.variables:
            return self.variables
        return tuple(v for v in DEFAULT_VARIABLES if self.mode == "with-mmse" or not v.is_cognition)

    @property
    def width(self) -> int:
        """K: numbers that one scan's clinical data are encoded in."""
        return sum(variable.width for variable in self.used)

    @model_validator(mode="after")
    def _mode_and_variables_agree(self) -> Self:
        names = [variable.name for variable in self.variables]
        if len(set(names)) != len(names):
            raise ValueError(f"clinical variables repeat: {sorted(names)}")
        if self.mode == "imaging-only" and names:
            raise ValueError(f"mode 'imaging-only' has no clinical variables; found {names}")
        for name in names:
            if _begins(name, LABEL):
                raise ValueError(f"clinical variable {name!r} is the label, or made of it")
        tests = [variable.name for variable in self.variables if variable.is_cognition]
        if self.mode == "without-cognition" and tests:
            raise ValueError(
                f"{tests} are cognitive tests, from which the label is made: use mode 'with-mmse' "
                "and report its figures apart"
            )
        if self.mode == "with-mmse" and names and not tests:
            raise ValueError("mode 'with-mmse' without a cognitive test: use 'without-cognition'")
        return self


def _begins(name: str, beginnings: tuple[str, ...]) -> bool:
    """Whether the name, or a part of it after an underscore, begins so."""
    parts = re.split("_", name)
    tails = ["_".join(parts[i:]) for i in range(len(parts))]
    return any((tail + "_").startswith(beginnings) for tail in tails)


#: What studies of dementia record most often. Constants: round numbers near the baseline table of
#: ADNI-1 (Petersen et al., Neurology 2010;74:201-209, n = 819); any public numbers of about this
#: size do, because what is learnt from is how patients differ. Held fixed within plan format 1.
DEFAULT_VARIABLES: tuple[ClinicalVariable, ...] = (
    ClinicalVariable(name="age", unit="years", mean=75.0, sd=7.0, lowest=0.0, highest=120.0),
    ClinicalVariable(name="sex", kind="category", categories=("F", "M")),
    ClinicalVariable(name="education", unit="years", mean=15.5, sd=3.0, lowest=0.0, highest=40.0),
    ClinicalVariable(
        name="apoe4", unit="e4 alleles", mean=0.6, sd=0.7, lowest=0.0, highest=2.0
    ),
    ClinicalVariable(name="mmse", unit="points", mean=26.7, sd=2.7, lowest=0.0, highest=30.0),
)  # fmt: skip
