"""The dashboard's facts as JSON: those of ``smrfed-coordinator status --json``, and more."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from server.dashboard.catalogue import Summary, View, shared_parameters
from server.dashboard.progress import Progress
from server.dashboard.released import Release
from server.rounds.records import RoundRecord


def summary_facts(summary: Summary) -> dict[str, Any]:
    """One run of the list."""
    if summary.files is None or summary.progress is None:
        return {
            "name": summary.name,
            "problem": summary.problem,
            "being_read": summary.problem is None,
        }
    files, plan = summary.files, summary.files.plan
    last = files.history[-1] if files.history else None
    return {
        "name": summary.name,
        "run_id": files.run_id,
        "plan": plan.name,
        "plan_digest": plan.digest,
        "rounds_completed": files.completed,
        "rounds": plan.training.rounds,
        **progress_facts(summary.progress),
        "privacy": privacy_facts(summary),
        "sites": list(files.weights),
        "accepted": [] if last is None else list(last.accepted),
        "set_aside": {} if last is None else last.set_aside,
        "warnings": list(summary.warnings),
    }


def view_facts(view: View, rounds: int = 20) -> dict[str, Any]:
    """Everything about one run, with its last ``rounds`` rounds and releases."""
    files, mode = view.files, view.files.plan.privacy.mode
    return {
        "name": files.name,
        "run_id": files.run_id,
        "plan": files.plan.name,
        "plan_digest": files.plan.digest,
        "rounds_completed": files.completed,
        "rounds": files.plan.training.rounds,
        "global_sha256": files.global_sha256,
        "shared_parameters": shared_parameters(files.path, files.completed),
        "history": [record_facts(record, mode) for record in files.history[-rounds:]],
        "stopped": None if files.stopped is None else record_facts(files.stopped, mode),
        "participation": view.participation.model_dump(mode="json"),
        "wanted": None if files.wanted is None else files.wanted.model_dump(mode="json"),
        "finalised": None if files.finalised is None else record_facts(files.finalised, mode),
        "releases": [_release(release, view) for release in view.releases[-rounds:]],
        **progress_facts(view.progress),
        "privacy": privacy_facts(view),
        "sites": [asdict(line) for line in view.sites],
        "receipts": asdict(view.receipts),
        "problem": files.problem or view.releases_problem,
    }


def progress_facts(progress: Progress) -> dict[str, Any]:
    """State, the question under way, and the expected end."""
    ends: datetime | None = progress.ends_at
    return {
        "state": progress.state,
        "note": progress.note,
        "under_way": progress.under_way,
        "answered": list(progress.answered),
        "seconds_per_round": progress.seconds_per_round,
        "ends_at": None if ends is None else ends.isoformat(timespec="seconds"),
    }


def privacy_facts(of: Summary | View) -> dict[str, Any]:
    """Mode and epsilon; an epsilon that is being computed is null."""
    assert of.files is not None
    privacy = of.files.plan.privacy
    private = privacy.mode != "none"
    return {
        "mode": privacy.mode,
        "epsilon_budget": privacy.epsilon if private else None,
        "delta": privacy.delta if private else None,
        "epsilon_planned": of.planned,
        "epsilon_spent": of.spent,
    }


def record_facts(record: RoundRecord, mode: str) -> dict[str, Any]:
    """A round; metrics in mode ``none`` only, whatever the file holds."""
    facts: dict[str, Any] = record.model_dump(mode="json")
    if mode != "none":
        for outcome in facts["sites"].values():
            outcome["metrics"] = {}
    return facts


def _release(release: Release, view: View) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kind": release.asked.kind,
        "after_round": release.after_round,
        "model_sha256": release.body_sha256,
        "accepted": list(release.asked.accepted),
        "missing": release.asked.set_aside,
    }
    if release.asked.kind == "calibrate":
        labels = view.files.plan.task.labels
        return facts | {"offsets": dict(zip(labels, release.offsets or (), strict=False))}
    if release.asked.kind == "evaluate":
        figures = view.figures.figures(release)
        return facts | {"figures": None if figures is None else asdict(figures)}
    return facts
