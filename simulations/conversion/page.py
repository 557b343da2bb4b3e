"""The figures of docs/longitudinal.md, written from their record."""

from __future__ import annotations

from simulations.conversion.study import Conversion
from simulations.few_labels.page import table, verdict


def conversion_text(result: Conversion) -> str:
    """Arms, and what an earlier scan adds."""
    rows = [
        [
            risk.arm,
            str(risk.auc),
            f"{risk.high_risk_free_at_24_months:.2f}",
            f"{risk.low_risk_free_at_24_months:.2f}",
            f"{risk.log_rank_p:.2g}",
        ]
        for risk in result.risks
    ]
    heads = ["risk by", "AUC", "free at 24 months, high risk", "low risk", "log-rank p"]
    volumes = verdict(
        result.change_minus_latest_volumes,
        "The latest volumes with their change",
        "the latest volumes alone",
    )
    network = verdict(
        result.change_minus_latest_smrnet,
        "SMR-Net with the scan before",
        "SMR-Net on the latest scan alone",
    )
    return (
        f"{result.patients} patients: {result.progressive} converted, {result.stable} stable, "
        f"{result.unknown} unknown (in the curves' data they play no part).\n\n"
        f"{table(heads, rows)}\n\n- {volumes}\n- {network}"
    )
