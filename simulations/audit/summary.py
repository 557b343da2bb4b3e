"""The audit on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from simulations.audit.results import AuditReport


def print_summary(report: AuditReport, page: Path, console: Console) -> None:
    """Tables of bounds, membership and inversion, and where the page is."""
    bounds = Table(title="Claimed epsilon and audited lower bounds (95 %)", title_justify="left")
    for heading in ("attack", "claimed", "at least (any)", "at least (family)", "gate"):
        bounds.add_column(heading, justify="left" if heading == "attack" else "right")
    for row in report.verdicts:
        bounds.add_row(
            row.title,
            f"{row.claimed_epsilon:.2f}",
            f"{row.epsilon_at_least:.2f}",
            f"{row.profile_epsilon_at_least:.2f}",
            "REFUTED" if row.refuted else "open",
        )
    console.print(bounds)
    told = report.estimate
    console.print(
        f"Estimate from {told.canaries} gradient canaries (no bound): epsilon {told.epsilon:.2f} "
        f"({told.low:.2f} to {told.high:.2f}), claimed {told.claimed_epsilon:.2f}"
    )
    members = Table(title="Membership inference", title_justify="left")
    for heading in ("attack", "AUROC", "TPR at 0.1 % FPR", "TPR at 1 % FPR"):
        members.add_column(heading, justify="left" if heading == "attack" else "right")
    for attack in report.membership:
        members.add_row(
            attack.title,
            f"{attack.auroc:.3f} ({attack.auroc_low:.3f} to {attack.auroc_high:.3f})",
            *(
                f"{100 * rate.true_positive_rate:.1f} % ({100 * rate.low:.1f} to "
                f"{100 * rate.high:.1f})"
                for rate in attack.rates
            ),
        )
    console.print(members)
    images = Table(title="Gradient inversion", title_justify="left")
    for heading in ("update of", "SSIM", "PSNR, dB"):
        images.add_column(heading, justify="left" if heading == "update of" else "right")
    for inversion in report.inversion:
        images.add_row(inversion.title, f"{inversion.ssim:.3f}", f"{inversion.psnr_db:.1f}")
    console.print(images)
    console.print(f"The page: {page}", soft_wrap=True)
