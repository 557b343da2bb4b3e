"""The pre-flight checks that only look, run again beside the page."""

from __future__ import annotations

from client.config import SiteConfig
from client.preflight.catalogue import checks_of
from client.preflight.site import CheckedSite
from shared_model.preflight.checks import Finding, Trouble, run_checks

# By name, so that a check that writes, or loads the training stack, is not run by a page.
_ONLY_LOOK = (
    "policy", "release hours", "coordinator key", "plan", "joined", "courier", "ledger",
    "receipts", "file modes", "socket", "agent", "SuperNode", "processors", "memory", "disk",
    "file system",
)  # fmt: skip


def readiness(site: SiteConfig) -> tuple[Finding, ...]:
    """Their findings, in the order of ``smrfed-site check``."""
    checks = [check for check in checks_of(CheckedSite(site)) if check.what in _ONLY_LOOK]
    return tuple(run_checks(checks, Trouble("SMR-E449")))
