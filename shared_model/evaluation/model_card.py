"""A model card in Markdown (Mitchell et al. 2019): what the document knows, and what nobody said.

A card travels with a model, further than a page. So of real patients a hospital where a class has
fewer than 20 shows no figure and no count; a subgroup of that kind never shows any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from shared_model.evaluation.figures import INDICATIVE_BELOW
from shared_model.evaluation.results import (
    SEEN,
    UNSEEN,
    EvaluationDocument,
    GroupFigures,
)
from shared_model.evaluation.wording import moment, number, with_interval
from shared_model.metrics.subgroups import MINIMUM

NOT_STATED = "not stated"
_CLASS_ROWS = {
    "sensitivity": "sensitivity, %",
    "specificity": "specificity, %",
    "ppv": "PPV, %",
    "npv": "NPV, %",
    "auc": "AUC",
}
_HIDDEN = "too few of a class"
_GROUP_METRICS = ("balanced_accuracy", "macro_auc", "brier_score", "ece")


class ModelFacts(BaseModel):
    """What the maker says of the model; None is printed as not stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    architecture: str | None = None
    federated_parameters: int | None = None
    input: str | None = None
    trained_on: str | None = None
    training_sites: tuple[str, ...] = ()
    intended_use: str | None = None
    contact: str | None = None


def model_card(document: EvaluationDocument, model: ModelFacts | None = None) -> str:
    """The card as Markdown; raises ValueError for a document that must stay in its hospital."""
    if document.scope == "stays":
        raise ValueError("this document must not leave its hospital, and a model card does")
    return "\n".join(_lines(document, model or ModelFacts())) + "\n"


def facts_card(title: str, parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A card from sections of plain lines, for figures that are not a document's."""
    lines = [f"# Model card: {_plain(title)}"]
    for heading, content in parts:
        lines += ["", f"## {heading}", "", *content]
    return "\n".join(lines) + "\n"


def _lines(document: EvaluationDocument, model: ModelFacts) -> Iterator[str]:
    arm, hidden = document.arm(document.headline), _hidden_sites(document)
    yield f"# Model card: {_plain(model.name or arm.title)}"
    yield ""
    yield f"Made {moment(document.created)} from “{_plain(document.title)}”."
    yield from _section("Model")
    from_ = document.provenance
    yield from table_lines(
        ("", ""),
        [
            ("architecture", model.architecture or NOT_STATED),
            (
                "federated parameters",
                NOT_STATED
                if model.federated_parameters is None
                else f"{model.federated_parameters:,}",
            ),
            ("digest of the parameters (SHA-256)", from_.model_sha256 or NOT_STATED),
            ("plan", from_.plan_name or NOT_STATED),
            ("plan digest (SHA-256)", from_.plan_digest or NOT_STATED),
            ("smrfed", from_.smrfed or NOT_STATED),
            ("commit", from_.commit or NOT_STATED),
            ("input", model.input or NOT_STATED),
            ("output", f"probabilities of {', '.join(document.labels)}"),
            ("contact", model.contact or NOT_STATED),
        ],
    )
    yield from _section("Intended use")
    yield _plain(model.intended_use or f"{NOT_STATED.capitalize()}.")
    yield ""
    yield (
        "Research only. It is no medical device, was not approved by anybody, and must not decide "
        "about a patient."
    )
    yield from _section("Data")
    if from_.synthetic:
        yield "**Simulated patients only: nothing here says how the model does on people.**"
        yield ""
    yield f"Trained on: {_plain(model.trained_on or NOT_STATED)}."
    sites = ", ".join(_plain(site) for site in model.training_sites) or NOT_STATED
    yield f"Hospitals that trained it: {sites}."
    yield f"Overlap of training and test patients: {document.overlap.how}."
    yield ""
    yield from table_lines(
        ("hospital", "role", "test patients", *document.labels, "age, mean (SD)", "women"),
        [_patients(document, number_) for number_ in range(len(document.patients))],
    )
    yield from _section("Figures")
    chance = 100 / len(document.labels)
    yield f"“{_plain(arm.title)}”; 95 % intervals over patients."
    yield f"Guessing gives a balanced accuracy of {chance:.1f} %."
    yield ""
    yield from table_lines(
        ("patients", "n", "balanced accuracy, %", "macro AUC", "Brier", "ECE"),
        [
            (
                document.group_title(where),
                *_group(arm.groups[where], shown=where not in hidden and _enough(document, where)),
            )
            for where in document.groups
            if where in arm.groups
        ],
    )
    for where in (SEEN, UNSEEN):
        if where in arm.groups and _enough(document, where):
            yield ""
            yield from table_lines(
                (document.group_title(where), *document.labels),
                [
                    (
                        _CLASS_ROWS[name],
                        *(with_interval(name, one) for one in arm.groups[where].per_class[name]),
                    )
                    for name in _CLASS_ROWS
                ],
            )
    yield from _section("Subgroups")
    yield from _subgroups(document)
    yield from _section("From MCI to AD within 36 months")
    if not arm.conversion:
        yield "Not evaluated: no patient with MCI has a known course."
    for where, one in arm.conversion.items():
        place = _plain(document.group_title(where))
        if document.provenance.synthetic is not True and min(one.progressed, one.stable) < MINIMUM:
            yield f"- {place}: fewer than {MINIMUM} who progressed or did not; no figure."
            continue
        yield (
            f"- {place}: AUC of p(AD) {with_interval('auc', one.auc)}; {one.progressed} "
            f"progressed, {one.stable} did not, {one.unknown} unknown."
        )
    yield from _section("Privacy")
    yield from _privacy(document)
    yield from _section("Limits")
    for note in document.notes:
        yield f"- {_plain(note)}"
    yield f"- Below {INDICATIVE_BELOW} patients of a class a figure is indicative."
    yield "- Predictive values depend on the case mix of the tested hospitals."


def _patients(document: EvaluationDocument, number_: int) -> tuple[str, ...]:
    site = document.patients[number_]
    role = "trained" if site.seen else "left out"
    if site.site in _hidden_sites(document):
        return (site.site, role, _HIDDEN, *("–",) * len(document.labels), "–", "–")
    women = site.sex.get("F", 0)
    known = sum(n for sex, n in site.sex.items() if sex != "unknown")
    age = NOT_STATED
    if site.age_mean is not None:
        age = f"{site.age_mean:.1f}" + ("" if site.age_sd is None else f" ({site.age_sd:.1f})")
    return (
        site.site,
        role,
        str(site.patients),
        *(str(n) for n in site.class_patients),
        age,
        f"{100 * women / known:.0f} %" if known else NOT_STATED,
    )


def _enough(document: EvaluationDocument, where: str) -> bool:
    """Whether a group of the headline arm may be shown."""
    group = document.arm(document.headline).groups[where]
    return document.provenance.synthetic is True or min(group.class_patients) >= MINIMUM


def _group(group: GroupFigures, *, shown: bool) -> tuple[str, ...]:
    if not shown:
        return (_HIDDEN, *("–",) * len(_GROUP_METRICS))
    figures = tuple(with_interval(name, group.metrics[name]) for name in _GROUP_METRICS)
    return (str(group.patients), *figures)


def _hidden_sites(document: EvaluationDocument) -> set[str]:
    """Hospitals with too few patients of a class.

    Of real patients at least two, so that nobody computes one as the rest of the sum.
    """
    if document.provenance.synthetic is True:
        return set()
    hidden = {s.site for s in document.patients if min(s.class_patients) < MINIMUM}
    others = [site for site in document.patients if site.site not in hidden]
    if len(hidden) == 1 and others:
        hidden.add(min(others, key=lambda site: site.patients).site)
    return hidden


def _subgroups(document: EvaluationDocument) -> Iterator[str]:
    shown = [one for one in document.subgroups if not one.suppressed]
    if not shown:
        yield f"None has {MINIMUM} patients of every class."
        return
    yield from table_lines(
        ("subgroup", "patients", "n", "balanced accuracy, %", "macro AUC", "ECE"),
        [
            (
                f"{one.column}: {one.value}",
                document.group_title(one.where),
                str(one.patients),
                *(
                    with_interval(name, one.metrics[name])
                    for name in ("balanced_accuracy", "macro_auc", "ece")
                ),
            )
            for one in shown
        ],
    )
    left_out = len(document.subgroups) - len(shown)
    if left_out:
        yield ""
        yield f"{left_out} more have too few patients of a class and show no figure."
    for gap in document.odds_gaps:
        if gap.gap is not None:
            yield ""
            yield (
                f"Equalised-odds gap, {gap.column}, {_plain(document.group_title(gap.where))}: "
                f"{number('accuracy', gap.gap)} points."
            )


def _privacy(document: EvaluationDocument) -> Iterator[str]:
    privacy = document.privacy
    if privacy is None:
        yield f"{NOT_STATED.capitalize()}."
        return
    if privacy.epsilon is None:
        yield f"No formal guarantee (mode {privacy.mode}; {privacy.trust})."
        return
    yield f"- ε = {privacy.epsilon:.3f} at δ = {privacy.delta:g}: {privacy.how}"
    yield f"- unit: {privacy.unit}"
    yield f"- neighbouring: {privacy.neighbouring}"
    yield f"- trust: mode {privacy.mode}; {privacy.trust}"


def _section(title: str) -> Iterator[str]:
    yield from ("", f"## {title}", "")


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table; cells are text, so markup in them is escaped here."""
    yield "| " + " | ".join(map(_plain, header)) + " |"
    yield "| " + " | ".join("---" for _ in header) + " |"
    for row in rows:
        yield "| " + " | ".join(map(_plain, row)) + " |"


def _plain(text: str) -> str:
    """Text that is no markup: a site or subgroup may be named anything."""
    out = text.replace("\\", "\\\\").replace("\n", " ")
    for mark in "|*_`<[":
        out = out.replace(mark, "\\" + mark)
    return out
