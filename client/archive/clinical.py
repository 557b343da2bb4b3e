"""A plan's clinical variables, as the hospital's tables have them of one scan."""

from __future__ import annotations

import math

from client.archive.labels import MISSING, ColumnNames, normalise
from client.archive.patients import Patient, Scan
from shared_model.clinical.encoding import Value
from shared_model.clinical.section import ClinicalSection, ClinicalVariable
from shared_model.errors import SmrfedError


def clinical_values(
    section: ClinicalSection, columns: ColumnNames, patient: Patient, scan: Scan
) -> dict[str, Value]:
    """Every variable of the plan by name; None where this visit's is missing.

    ``age`` and ``sex`` are those of the scan and the patient; a hospital without such a column has
    them missing for everybody.

    Raises SMR-E237 for a variable without a column, unless ``not_collected`` names it; SMR-E238 for
    what is no number; SMR-E239 for a number out of the plan's range, such as months for years.
    """
    return {v.name: _value(v, columns, patient, scan) for v in section.used}


def _value(variable: ClinicalVariable, columns: ColumnNames, patient: Patient, scan: Scan) -> Value:
    name = variable.name
    if name in {text.strip().casefold() for text in columns.not_collected}:
        return None
    cells = dict(scan.clinical)
    value: Value
    if name not in cells and name in ("age", "sex"):
        value = scan.age if name == "age" else patient.sex
    elif name in cells:
        value = None if normalise(cells[name]) == MISSING else cells[name]
    elif name in dict(columns.measures):
        value = dict(scan.measures).get(name)
    else:
        raise SmrfedError(
            "SMR-E237",
            f"the plan's clinical variable {name!r} has no column in this archive",
            expected=f"a column in participants.tsv or the sessions tables: {name}, "
            f"or the one that [columns.clinical] in site.toml gives for {name}",
            found="none",
            remedy="name the column; where the hospital never collects it, list it under "
            "not_collected in [columns], and it counts as missing",
        )
    if value is None or variable.kind == "category":
        return value
    return _number(variable, value, f"{patient.id} {scan.session}".strip())


def _number(variable: ClinicalVariable, value: float | str, visit: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SmrfedError(
            "SMR-E238",
            f"{visit} has a {variable.name} that is no number",
            expected=f"a number ({variable.unit})" if variable.unit else "a number",
            found=repr(value),
            remedy="correct the table; write n/a where the value is missing",
        )
    if not variable.lowest <= number <= variable.highest:
        raise SmrfedError(
            "SMR-E239",
            f"{visit} has a {variable.name} out of the plan's range",
            expected=f"{variable.lowest:g} to {variable.highest:g} {variable.unit}".strip(),
            found=f"{number:g}",
            remedy="correct the table, or its unit; write n/a where the value is not known",
        )
    return number
