"""``smrfed-coordinator evaluation``: what the sites released about their test patients."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from server.checkpoints.run_directory import RunDirectory
from server.enrolment.additions import current_plan
from server.evaluation.records import ReleaseStore
from server.evaluation.view import as_facts, offsets_text, overview, site_table
from server.rounds.participation import participation
from server.run_path import RunPath
from shared_model.errors import SmrfedError


def evaluation(
    run_dir: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for scripts")] = False,
    after_round: Annotated[
        int | None, typer.Option("--round", min=1, help="show the evaluation after this round")
    ] = None,
) -> None:
    """Show the released figures of a run per site, with intervals for patients and noise."""
    run = RunDirectory.open(run_dir)
    records = ReleaseStore(run.path).all()
    if as_json:
        print(json.dumps([as_facts(record, run.plan) for record in records]))
        return
    evaluations = [r for r in records if r.asked.kind == "evaluate"]
    chosen = [r for r in evaluations if after_round in (None, r.after_round)]
    if not chosen:
        raise SmrfedError(
            "SMR-E573",
            "this run has no such evaluation",
            expected="an evaluation after round "
            + (", ".join(str(r.after_round) for r in evaluations) or "-: there is none"),
            found="any" if after_round is None else after_round,
            remedy="wait for the next one; plan field evaluation.release_every says how often",
        )
    out = Console()
    out.print(overview(evaluations, current_plan(run)))
    out.print(site_table(chosen[-1], run.plan))
    for record in records:
        if record.asked.kind == "calibrate":
            out.print(f"class biases: {offsets_text(record, run.plan)}", highlight=False)
    for warning in participation(run).warnings:
        out.print(f"WARNING, training: {warning}", style="yellow", highlight=False, markup=False)
    for site, why in chosen[-1].asked.set_aside.items():
        out.print(f"missing: {site}: {why}", highlight=False, markup=False)
