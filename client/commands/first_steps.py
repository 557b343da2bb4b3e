"""``smrfed-site init`` and ``check``: from an empty folder to a site that can take part."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape

from client.agent.acceptance import AcceptedPlans
from client.agent.durable import make_private_folder, write_durably
from client.agent.state import StateFolder
from client.commands.display import AsJson, err, out, print_facts, print_json
from client.commands.templates import POLICY_TOML, site_toml
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.ledger_view.opened import kept_receipts
from client.privacy.ledger import Ledger
from client.privacy.witness import require_charged
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan, SiteName
from shared_model.protocol.keys import (
    fingerprint,
    load_or_create_signing_key,
    load_public_key,
    public_path,
)

Folder = Annotated[Path, typer.Argument(help="folder of this site", metavar="DIR")]


def _site_name(value: str) -> str:
    try:
        return TypeAdapter(SiteName).validate_python(value)
    except ValidationError:
        raise typer.BadParameter("use a-z, 0-9 and hyphens, at most 31 characters") from None


Name = Annotated[str, typer.Option("--name", help="the site's name in plans", callback=_site_name)]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", help="plan to check against; default: the newest accepted one"),
]
ConfigArgument = Annotated[Path, typer.Argument(help="the site's configuration", metavar="CONFIG")]

# Prepared scans are float16; two scans per patient are assumed.
_BYTES_PER_VOXEL_AND_PATIENT = 4
_SPARE_BYTES = 1 << 30


def init(folder: Folder, name: Name = "my-hospital", as_json: AsJson = False) -> None:
    """Write a commented configuration and policy, make the site's key, show its fingerprint."""
    files = {folder / "site.toml": site_toml(name), folder / "policy.toml": POLICY_TOML}
    for path in files:
        if path.exists():
            raise SmrfedError(
                "SMR-E417",
                f"{path} exists already",
                expected="a folder without site.toml and policy.toml",
                found=path.name,
                remedy="edit the existing file, or name another folder",
            )
    state = StateFolder(folder / "state")
    make_private_folder(state.path)
    for path, text in files.items():
        write_durably(path, text.encode())
    key = load_or_create_signing_key(state.key)
    facts = {
        "configuration": str(folder / "site.toml"),
        "policy": str(folder / "policy.toml"),
        "public key": str(public_path(state.key)),
        "fingerprint": fingerprint(key.public_key()),
    }
    if as_json:
        print_json(facts)
        return
    print_facts(facts)
    out.print(
        "Send the public key to the coordinator, compare the fingerprint by telephone, fill in "
        "site.toml, then: smrfed-site check " + escape(str(folder / "site.toml")),
        highlight=False,
    )


@dataclass(frozen=True)
class Finding:
    """One line of a check: what was looked at, and what was found or went wrong."""

    what: str
    found: str
    error: SmrfedError | None = None


def check(config: ConfigArgument, plan: PlanOption = None, as_json: AsJson = False) -> None:
    """Check everything that this site needs to take part; counts are shown here only."""
    site = SiteConfig.load(config)
    findings: list[Finding] = []

    def look(what: str, at: Callable[[], str]) -> None:
        try:
            findings.append(Finding(what, at()))
        except SmrfedError as error:
            findings.append(Finding(what, error.what, error))
        if not as_json:
            _print(findings[-1])

    state = StateFolder(site.state_dir)
    agreed = FederationPlan.load(plan) if plan is not None else _newest(state)
    look("policy", lambda: _policy(site, agreed))
    look("coordinator key", lambda: _coordinator(site))
    look("site key", lambda: fingerprint(load_or_create_signing_key(state.key).public_key()))
    look("ledger", lambda: _ledger(state))
    look("plan", lambda: _plan(site, agreed))
    look("disk", lambda: _disk(site, agreed))
    with err.status("reading the archive"):
        look("archive", lambda: _archive(site, agreed))
    with err.status("loading the training stack"):
        look("device", lambda: _device(site))
        if agreed is not None:
            look("atlas", lambda: _atlas(agreed))
    problems = [finding for finding in findings if finding.error is not None]
    if as_json:
        print_json(
            {
                "ready": not problems,
                "checks": [
                    {
                        "what": f.what,
                        "found": f.found,
                        "code": None if f.error is None else f.error.code,
                    }
                    for f in findings
                ],
            }
        )
    if problems:
        raise SmrfedError(
            "SMR-E420",
            "this site is not ready to take part",
            expected="no problems",
            found=", ".join(f"{f.what}: {f.error.code}" for f in problems if f.error),
            remedy="settle the problems listed above, then run the check again",
        )


def _print(finding: Finding) -> None:
    if finding.error is None:
        text = f"[green]ok[/green]      [bold]{finding.what:16}[/bold]{escape(finding.found)}"
    else:
        text = f"[red]problem[/red] [bold]{finding.what:16}[/bold]{escape(finding.error.render())}"
    out.print(text, soft_wrap=True, highlight=False)


def _ledger(state: StateFolder) -> str:
    ledger = Ledger(state.ledger)
    # As the agent does at its start: a new ledger beside old receipts is a lost one.
    require_charged(ledger, kept_receipts(state))
    return f"{ledger.verify()} events, chain verified"


def _newest(state: StateFolder) -> FederationPlan | None:
    accepted = AcceptedPlans(state.plans).all()
    return accepted[-1].plan if accepted else None


def _policy(site: SiteConfig, plan: FederationPlan | None) -> str:
    policy = SitePolicy.load(site.policy)
    if plan is not None:
        policy.admit_plan(plan)
    return (
        f"modes {', '.join(policy.modes)}; epsilon up to {policy.max_epsilon:g} at delta "
        f"{policy.max_delta:g}; {policy.max_shared_parameters:,} numbers per reply"
    )


def _coordinator(site: SiteConfig) -> str:
    found = fingerprint(load_public_key(site.coordinator_key))
    SitePolicy.load(site.policy).admit_coordinator(found)
    return found


def _plan(site: SiteConfig, plan: FederationPlan | None) -> str:
    if plan is None:
        return "none accepted yet: smrfed-site accept PLAN"
    entry = plan.site(site.name)
    return f"{plan.name} ({plan.digest[:12]}), {entry.declared_patients} declared patients"


def _disk(site: SiteConfig, plan: FederationPlan | None) -> str:
    existing = site.state_dir
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    needed = _SPARE_BYTES
    if plan is not None:
        x, y, z = plan.input.grid.shape
        needed += x * y * z * _BYTES_PER_VOXEL_AND_PATIENT * plan.site(site.name).declared_patients
    if free < needed:
        raise SmrfedError(
            "SMR-E422",
            f"too little disk space below {existing}",
            expected=f"{needed / 1e9:.1f} GB free",
            found=f"{free / 1e9:.1f} GB",
            remedy="free space, or set state_dir to a larger file system",
        )
    return f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed"


def _archive(site: SiteConfig, plan: FederationPlan | None) -> str:
    from client.archive.bids import read_bids_archive, survey_bids_archive

    if site.dicom is not None and not site.dataset.exists():
        return "DICOM files that were not taken in yet: smrfed-site prepare"
    labels = plan.task.labels if plan is not None else site.label_names
    left_out = ""
    if plan is None or plan.input.preparation.source == "mni152":
        patients = read_bids_archive(site.dataset, site.label_mapping, labels)
    else:
        survey = survey_bids_archive(site.dataset, site.label_mapping, labels)
        patients = survey.patients
        left_out = f"; {len(survey.exclusions)} excluded, see smrfed-site prepare"
    counts = Counter(labels[patient.label] for patient in patients)
    shown = ", ".join(f"{label} {counts[label]}" for label in labels)
    scans = sum(len(patient.scans) for patient in patients)
    return f"{len(patients)} patients, {scans} scans ({shown}){left_out}; shown here only"


def _device(site: SiteConfig) -> str:
    from client.agent.site_data import training_device

    return f"{training_device(site.device)}, {site.threads} threads"


def _atlas(plan: FederationPlan) -> str:
    from shared_model.atlas.select import load_atlas

    return f"{plan.atlas.name}, {len(load_atlas(plan.atlas, plan.input.grid).names)} regions"
