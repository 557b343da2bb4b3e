"""How this hospital writes its tables: column names, and its own words for the plan's labels."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_model.errors import SmrfedError

#: How a missing value is written, and how an empty cell is read.
MISSING = "n/a"


class ColumnNames(BaseModel):
    """Columns of participants.tsv and the sessions tables; upper and lower case are the same.

    A column that is named in the site's configuration must exist. Without a name, the usual ones
    are looked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    diagnosis: str | None = Field(default=None, description="default: diagnosis, else group")
    age: str | None = Field(default=None, description="years at the visit; default: age")
    sex: str | None = Field(default=None, description="default: sex, else gender")
    progression: str | None = Field(
        default=None, description="pMCI, sMCI or uMCI, for evaluation; default: progression"
    )
    months: str | None = Field(
        default=None,
        description="months of a visit since any zero, for evaluation; default: months",
    )
    date: str | None = Field(
        default=None, description="ISO 8601 date of a visit, for evaluation; default: date"
    )
    mmse: str | None = Field(default=None, description="Mini-Mental State, 0 to 30; default: none")
    numbers: tuple[str, ...] = Field(
        default=(), description="further columns that hold numbers, such as CDR; default: none"
    )
    clinical: dict[str, str] = Field(
        default_factory=dict,
        description="clinical variable of a plan: its column; default for education, apoe4 and "
        "mmse: the usual names",
    )
    not_collected: tuple[str, ...] = Field(
        default=(), description="clinical variables that this hospital has for nobody"
    )

    def wanted(self, columns: tuple[str, ...]) -> dict[str, str]:
        """Meaning to case-folded column, for those of a table's ``columns`` that are asked for."""
        out = {}
        for meaning, usual in USUAL_COLUMNS.items():
            named: str | None = getattr(self, meaning)
            names = usual if named is None else (named.strip().casefold(),)
            found = next((name for name in names if name in columns), None)
            if found is not None:
                out[meaning] = found
        out |= {name: column for name, column in self.measures.items() if column in columns}
        for variable, usual in self.clinical_columns.items():
            found = next((name for name in usual if name in columns), None)
            if found is not None:
                out[CLINICAL + variable] = found
        return out

    @property
    def clinical_columns(self) -> dict[str, tuple[str, ...]]:
        """Clinical variable to the case-folded columns that it may stand in."""
        named = {name: (column.strip().casefold(),) for name, column in self.clinical.items()}
        return USUAL_CLINICAL | named

    @property
    def measures(self) -> dict[str, str]:
        """Name of each measure (``mmse``, and the further ones' own) to its case-folded column."""
        out = {name.strip().casefold(): name.strip().casefold() for name in self.numbers}
        return out if self.mmse is None else {"mmse": self.mmse.strip().casefold()} | out


#: Where to look for a column that the site does not name.
USUAL_COLUMNS = {
    "diagnosis": ("diagnosis", "group"),
    "age": ("age",),
    "sex": ("sex", "gender"),
}


#: The same of clinical variables; a column that is not there is asked for only by a plan.
USUAL_CLINICAL = {
    "education": ("education", "education_years", "pteducat"),
    "apoe4": ("apoe4", "apoe_e4"),
    "mmse": ("mmse",),
}
#: Beginning of what a clinical cell means, apart from the measures of evaluation.
CLINICAL = "clinical "


class LabelMapping(BaseModel):
    """Archive values of each plan label, values to leave out, and how the tables are read.

    Values are compared without regard to case and surrounding blanks; an empty cell is ``n/a``.
    A value that is neither mapped nor excluded is an error: nobody is left out by accident.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: dict[str, tuple[str, ...]] = Field(
        min_length=1, description="plan label: the archive's values that mean it"
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="archive values whose visits take no part; n/a for missing ones"
    )
    columns: ColumnNames = ColumnNames()
    missing_images: Literal["error", "skip"] = Field(
        default="error", description="what to do with people in participants.tsv without an image"
    )

    @model_validator(mode="after")
    def _every_value_means_one_thing(self) -> Self:
        seen: dict[str, str] = {}
        for label, values in [*self.values.items(), ("exclude", self.exclude)]:
            for value in map(normalise, values):
                if seen.setdefault(value, label) != label:
                    raise ValueError(f"{value!r} stands under {seen[value]} and under {label}")
        return self

    def indices(self, plan_labels: tuple[str, ...]) -> dict[str, int | None]:
        """Normalised archive value to index in the plan's labels; None: excluded.

        Raises SMR-E219 when the mapping names a label that the plan does not have.
        """
        unknown = [label for label in self.values if label not in plan_labels]
        if unknown:
            raise SmrfedError(
                "SMR-E219",
                "the site's [labels] name a label that the plan does not have",
                expected=f"only {', '.join(plan_labels)}, written the same way",
                found=", ".join(unknown),
                remedy="correct [labels] in site.toml; list values to leave out under exclude",
            )
        out: dict[str, int | None] = {
            normalise(value): plan_labels.index(label)
            for label, values in self.values.items()
            for value in values
        }
        return out | dict.fromkeys(map(normalise, self.exclude))


def normalise(value: str) -> str:
    """A table's value as it is compared: no surrounding blanks, no case, ``n/a`` when empty."""
    return value.strip().casefold() or MISSING
