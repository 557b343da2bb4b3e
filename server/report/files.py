"""The run report as files: page, JSON, CSV and model card."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from server.report.gather import CLASS_FIGURES, FIGURES, NoisedFigures, RunReport
from server.report.page import report_page, with_noise
from shared_model.evaluation.model_card import facts_card, table_lines
from shared_model.evaluation.results import Estimate
from shared_model.evaluation.table_file import write_text
from shared_model.evaluation.wording import moment

_COLUMNS = ("after_round", "where", "metric", "class", "value", "low", "high")


@dataclass(frozen=True)
class WrittenReport:
    """Where the files of a run report lie."""

    page: Path
    json: Path
    csv: Path
    card: Path


def write_report(report: RunReport, folder: Path) -> WrittenReport:
    """Write ``report.html``, ``.json``, ``.csv`` and ``model_card.md``; raises SMR-E617."""
    written = WrittenReport(
        folder / "report.html",
        folder / "report.json",
        folder / "report.csv",
        folder / "model_card.md",
    )
    write_text(written.json, report.model_dump_json(indent=1) + "\n")
    write_text(written.csv, report_csv(report))
    write_text(written.card, run_card(report))
    write_text(written.page, report_page(report))
    return written


def report_csv(report: RunReport) -> str:
    """A row per released figure; an empty value where noise hides it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)

    def write(after: int, where: str, found: NoisedFigures) -> None:
        for name in FIGURES:
            writer.writerow([after, where, name, "", *_cells(found.figures[name])])
        for name in CLASS_FIGURES:
            for label, one in zip(report.labels, found.per_class[name], strict=True):
                writer.writerow([after, where, name, label, *_cells(one)])

    for one in report.evaluations:
        for site, found in one.sites.items():
            write(one.after_round, site, found)
        if one.together is not None:
            write(one.after_round, "all together", one.together)
    return buffer.getvalue()


def run_card(report: RunReport) -> str:
    """The model card of a run: released figures only, and what nobody stated."""
    privacy, last = report.privacy, report.last
    figures = ["No figure about test patients was released."]
    if last is not None and last.together is not None:
        rows = {**last.sites, "all together": last.together}
        figures = [
            f"After round {last.after_round}, {last.answered}; 95 % intervals for patients and "
            f"noise. Guessing gives a balanced accuracy of {100 / len(report.labels):.1f} %.",
            "",
            *table_lines(
                ("hospital", "test patients", "balanced accuracy, %", "macro AUC"),
                [
                    (
                        name,
                        *(
                            with_noise(metric, found.figures[metric])
                            for metric in ("patients", "balanced_accuracy", "macro_auc")
                        ),
                    )
                    for name, found in rows.items()
                ],
            ),
        ]
    guarantee = [f"No formal guarantee (mode {privacy.mode}; {privacy.trust})."]
    if privacy.epsilon is not None:
        guarantee = [
            f"- ε = {privacy.epsilon:.3f} at δ = {privacy.delta:g}: {privacy.how}",
            f"- unit: {privacy.unit}",
            f"- neighbouring: {privacy.neighbouring}",
            f"- trust: mode {privacy.mode}; {privacy.trust}",
        ]
    shares = report.shares
    data = [
        *table_lines(
            ("hospital", "declared patients", "rounds that counted"),
            [
                (one.site, f"{one.declared_patients}", f"{one.rounds} of {one.asked}")
                for one in shares.sites
            ],
        ),
        "",
        f"Training: {shares.in_words}.",
        *(f"- WARNING: {warning}." for warning in shares.warnings),
        "",
        "What their patients are like is not known here.",
    ]
    return facts_card(
        f"{report.plan_name}, run {report.run_id}",
        [
            (
                "Model",
                [
                    f"Made {moment(report.created)} by the coordinator; {report.state}.",
                    "",
                    *table_lines(
                        ("", ""),
                        [
                            ("architecture", report.model),
                            ("federated parameters", f"{report.shared_parameters:,}"),
                            ("digest of the parameters (SHA-256)", report.model_sha256),
                            ("plan digest (SHA-256)", report.plan_digest),
                            ("rounds", f"{report.rounds_completed} of {report.rounds}"),
                            ("smrfed", report.smrfed),
                            ("output", f"probabilities of {', '.join(report.labels)}"),
                        ],
                    ),
                ],
            ),
            (
                "Intended use",
                [
                    "Not stated.",
                    "",
                    "Research only. It is no medical device, was not approved by anybody, and must "
                    "not decide about a patient.",
                ],
            ),
            ("Data", data),
            ("Figures", figures),
            ("Subgroups", ["Not released."]),
            ("Privacy", guarantee),
            ("Limits", [f"- Not known: {one}" for one in report.unknown]),
        ],
    )


def _cells(found: Estimate) -> list[object]:
    return ["" if x is None else x for x in (found.value, found.low, found.high)]
