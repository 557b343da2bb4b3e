"""``early_stop_release = "best"``: what noised figures say was best is released."""

from __future__ import annotations

from pathlib import Path

import pytest
from driver_runs import drive_on, outcomes
from looking_federation import LookingTransport, killed_at_every_write, looking_plan, start
from toy_federation import read
from typer.testing import CliRunner

from server.cli import app
from server.evaluation.records import ReleaseRecord
from server.evaluation.summary import summarise
from server.rounds.driver import RunResult
from server.rounds.releases import released_body
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest

RULES = {"argmax": {}, "prior_free": {"rule": "prior_free", "noise_multiplier": 4.0}}


def best_plan(rounds: int = 20, rule: str = "argmax", **sections) -> FederationPlan:
    evaluation = {
        "release_every": 1,
        "release_noise_multiplier": 1.3,
        "early_stop_patience": 4,
        "early_stop_release": "best",
    }
    return looking_plan(rounds, evaluation=evaluation, calibration=RULES[rule], **sections)


def finished(
    path: Path, plan: FederationPlan
) -> tuple[RunResult, dict[tuple[str, int], bytes], list[ReleaseRecord]]:
    """A run, what its sites were sent by kind and round, and the evaluations between the rounds."""
    transport = LookingTransport(plan, plateau=2)
    result = drive_on(start(path, plan), transport)
    sent = {(read(m).kind, read(m).round): m.body for site, m in transport.pushed if site == "a"}
    between = [r for r in result.releases if r.asked.kind == "evaluate" and r.asked.round < 20]
    return result, sent, between


def best_round(between: list[ReleaseRecord], plan: FederationPlan) -> int:
    """Recomputed from what a person is shown."""
    shown = [summarise(record, plan).together for record in between]
    areas = [found.macro_auc.value if found is not None else None for found in shown]
    known = [(area, -number) for number, area in enumerate(areas, 1) if area is not None]
    return -max(known)[1]


@pytest.mark.parametrize("rule", ["argmax", "prior_free"])
def test_the_best_evaluated_parameters_are_released_and_looked_at_once_more(
    tmp_path: Path, rule: str
) -> None:
    plan = best_plan(rule=rule)
    result, sent, between = finished(tmp_path / "run", plan)
    best = best_round(between, plan)
    assert best == len(result.history) - 4
    # Far behind the checkpoints that a run keeps.
    assert best < min(int(folder.name) for folder in (tmp_path / "run" / "rounds").iterdir())
    last = result.releases[-1]
    assert (last.asked.kind, last.asked.round, last.after_round) == ("evaluate", 20, best)
    assert last.body_sha256 == body_digest(result.body)
    assert sent["finalise", 20] == sent["evaluate", 20] == result.body
    looked_at = sent["calibrate", 20] if rule == "prior_free" else result.body
    assert looked_at == sent["evaluate", best] != sent["evaluate", len(result.history)]
    assert released_body(start(tmp_path / "run", plan)) == result.body


def test_rounds_that_run_out_release_the_last(tmp_path: Path) -> None:
    plan = best_plan(rounds=5)
    result, sent, _ = finished(tmp_path / "run", plan)
    assert len(result.history) == 5
    assert result.body == start(tmp_path / "run", plan).latest().release_body
    assert result.releases[-1].after_round == 5
    assert sent["evaluate", 5] == result.body


def test_a_run_that_is_killed_at_any_write_releases_the_same(tmp_path: Path) -> None:
    plan = best_plan(rule="prior_free")
    whole, _, _ = finished(tmp_path / "whole", plan)
    start(tmp_path / "run", plan)
    kills = killed_at_every_write(tmp_path / "run", lambda: LookingTransport(plan, plateau=2))
    assert kills > 10
    silent = LookingTransport(plan)
    again = drive_on(start(tmp_path / "run", plan), silent)
    assert silent.pushed == []
    assert again.body == whole.body
    assert outcomes(again.history) == outcomes(whole.history)
    assert [r.body_sha256 for r in again.releases] == [r.body_sha256 for r in whole.releases]


def test_export_and_status_say_which_model_it_is(tmp_path: Path) -> None:
    plan = best_plan()
    result, _, between = finished(tmp_path / "run", plan)
    run, out = str(tmp_path / "run"), tmp_path / "model.safetensors"
    told = CliRunner().invoke(app, ["export", run, str(out)])
    assert told.exit_code == 0, told.output
    assert out.read_bytes() == result.body
    assert f"after round {best_round(between, plan)}/20" in " ".join(told.output.split())
    told = CliRunner().invoke(app, ["status", run])
    assert "the best of them is released" in " ".join(told.output.split())


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_damaged_parameters_are_refused_with_a_number(tmp_path: Path, damage: str) -> None:
    plan = best_plan()
    finished(tmp_path / "run", plan)
    kept = tmp_path / "run" / "releases" / "best.safetensors"
    if damage == "gone":
        kept.unlink()
    else:
        kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(SmrfedError, match="SMR-E572"):
        released_body(start(tmp_path / "run", plan))
    with pytest.raises(SmrfedError, match="SMR-E572"):
        drive_on(start(tmp_path / "run", plan), LookingTransport(plan))


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"evaluation": {"early_stop_release": "best"}}, "needs early_stop_patience"),
        ({"adaptation": {"personalise": "private"}}, "rest during the rounds"),
        (
            {
                "privacy": {"mode": "none"},
                "adaptation": {"site_norm": "local"},
                "evaluation": {
                    "release_every": 1, "early_stop_patience": 1, "early_stop_release": "best",
                },
            },
            "rest during the rounds",
        ),
    ],
)  # fmt: skip
def test_plans_that_contradict_it_are_refused(sections: dict[str, object], says: str) -> None:
    with pytest.raises(SmrfedError, match=says):
        FederationPlan.parse(best_plan().model_dump(mode="json", exclude_defaults=True) | sections)
