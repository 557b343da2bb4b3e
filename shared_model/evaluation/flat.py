"""The document as one flat CSV: a row per figure, for whoever calculates further."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from shared_model.evaluation.results import Estimate, EvaluationDocument

COLUMNS = (
    "kind",
    "arm",
    "reference",
    "where",
    "subgroup",
    "metric",
    "class",
    "patients",
    "value",
    "low",
    "high",
    "p",
    "p_holm",
)
Row = dict[str, object]


def document_csv(document: EvaluationDocument) -> str:
    """All figures of the document; empty cells where a figure is not determined."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in _rows(document):
        writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return buffer.getvalue()


def _rows(document: EvaluationDocument) -> Iterator[Row]:
    for arm in document.arms:
        for where, group in arm.groups.items():
            base: Row = {"kind": "figure", "arm": arm.key, "where": where}
            base["patients"] = group.patients
            for metric, found in group.metrics.items():
                yield base | {"metric": metric} | _cells(found)
            for metric, by_class in group.per_class.items():
                for label, found in zip(document.labels, by_class, strict=True):
                    yield base | {"metric": metric, "class": label} | _cells(found)
        for where, conversion in arm.conversion.items():
            base = {"kind": "conversion", "arm": arm.key, "where": where}
            base["patients"] = conversion.progressed + conversion.stable
            for metric in ("auc", "sensitivity", "specificity"):
                yield base | {"metric": metric} | _cells(getattr(conversion, metric))
        for spread in arm.spread:
            for name in ("mean", "worst", "gap", "sd"):
                yield {
                    "kind": f"over sites: {name}",
                    "arm": arm.key,
                    "where": spread.where,
                    "metric": spread.metric,
                    "subgroup": spread.worst_site if name == "worst" else None,
                    "value": getattr(spread, name),
                }
    for one in document.differences:
        yield {
            "kind": "paired difference",
            "arm": one.arm,
            "reference": one.reference,
            "where": one.where,
            "metric": one.metric,
            "patients": one.patients,
            "p": one.p,
            "p_holm": one.p_holm,
        } | _cells(one.difference)
    for group_ in document.subgroups:
        base = {
            "kind": "subgroup",
            "arm": document.headline,
            "where": group_.where,
            "subgroup": f"{group_.column}: {group_.value}",
            "patients": group_.patients,
        }
        if group_.suppressed:
            yield base | {"metric": "suppressed"}
        for metric, found in group_.metrics.items():
            yield base | {"metric": metric} | _cells(found)
        for metric, by_class in group_.per_class.items():
            for label, found in zip(document.labels, by_class, strict=True):
                yield base | {"metric": metric, "class": label} | _cells(found)
    for shift in document.prevalence:
        base = {"kind": "prevalence", "arm": document.headline, "where": shift.where}
        base["subgroup"] = shift.name
        yield base | {"metric": "accuracy", "value": shift.accuracy}
        for metric in ("ppv", "npv"):
            for label, found in zip(document.labels, getattr(shift, metric), strict=True):
                yield base | {"metric": metric, "class": label} | _cells(found)
    yield from _beyond(document)


def _beyond(document: EvaluationDocument) -> Iterator[Row]:
    for again in document.recalibration:
        for kind, figures in (("before", again.before), ("after", again.after)):
            for metric, found in figures.items():
                yield {
                    "kind": f"{kind} a local temperature",
                    "arm": document.headline,
                    "where": again.where,
                    "metric": metric,
                    "patients": again.patients,
                } | _cells(found)
    for probe in document.site_probes:
        for metric in ("within", "pooled"):
            yield {
                "kind": "site probe",
                "arm": probe.arm,
                "subgroup": probe.model or None,
                "metric": metric,
                "patients": probe.patients,
            } | _cells(getattr(probe, metric))
    for worse in document.robustness:
        for metric in ("balanced_accuracy", "change", "negative_log_likelihood"):
            yield {
                "kind": "corrupted scans",
                "arm": worse.arm,
                "where": worse.where,
                "subgroup": f"{worse.kind} {worse.severity}",
                "metric": metric,
                "patients": worse.patients,
            } | _cells(getattr(worse, metric))
    for attack in document.audit.attacks if document.audit else ():
        base: Row = {"kind": "attack", "subgroup": attack.title, "patients": attack.members}
        yield base | {"metric": "auroc"} | _cells(attack.auroc)
        for rate in attack.rates:
            metric = f"found at {rate.false_positive_rate:g} false"
            yield base | {"metric": metric} | _cells(rate.true_positive_rate)


def _cells(found: Estimate) -> Row:
    return {"value": found.value, "low": found.low, "high": found.high}
