"""Label schemas by name: what a plan predicts of whom, so that another disease is a line of a plan.

A schema only names the classes (``task.labels``); the model takes their number from the plan. What
a hospital writes in its tables for each of them stands in its own ``[labels]``.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared_model.errors import SmrfedError


@dataclass(frozen=True)
class LabelSchema:
    """Classes in logit order, controls first.

    Attributes:
        labels: names for ``task.labels``.
        about: one sentence.
    """

    labels: tuple[str, ...]
    about: str


LABEL_SCHEMAS: dict[str, LabelSchema] = {
    "ad": LabelSchema(
        ("CN", "MCI", "AD"), "Cognitively normal, mild cognitive impairment, Alzheimer's disease."
    ),
    "ad-two": LabelSchema(("CN", "AD"), "Alzheimer's disease against cognitively normal people."),
    "pd": LabelSchema(("CN", "PD"), "Parkinson's disease against controls."),
    "ftd": LabelSchema(
        ("CN", "bvFTD", "svPPA"),
        "Frontotemporal dementia: behavioural variant and semantic variant, against controls.",
    ),
    "stroke": LabelSchema(("CN", "stroke"), "People after a stroke against controls."),
    "dementia": LabelSchema(
        ("CN", "AD", "bvFTD", "svPPA"), "Which dementia, if any: Alzheimer's or frontotemporal."
    ),
}


def label_schema(name: str) -> LabelSchema:
    """A schema by name.

    Raises:
        SmrfedError: SMR-E750 for a name that is not among :data:`LABEL_SCHEMAS`.
    """
    if name not in LABEL_SCHEMAS:
        raise SmrfedError(
            "SMR-E750",
            f"there is no label schema {name!r}",
            expected=", ".join(LABEL_SCHEMAS),
            found=name,
            remedy="use one of these, or write the class names into task.labels of the plan",
        )
    return LABEL_SCHEMAS[name]
