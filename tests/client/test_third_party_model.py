"""A model of another package, installed as the documentation shows, trains one private round."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest
from agent_site import build_hospital, opened
from registered_models import tiny_plan
from small_site import small_atlas

from client.training.site_model import SiteModel
from server.evaluation.decision_rule import require_head
from shared_model.errors import SmrfedError
from shared_model.registry import ENTRY_POINTS, model_entry, model_names
from simulations.models.check import check_model, require_safe

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def blocks(language: str) -> list[str]:
    """The code of the page's worked example."""
    example = PAGE.read_text("utf-8").split("## A model of your own")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", example, re.DOTALL)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page's package in a folder on ``sys.path``, with the metadata that pip would write."""
    (module,) = blocks("python")
    project = tomllib.loads(blocks("toml")[0])["project"]
    points = project["entry-points"][ENTRY_POINTS]
    ((name, value),) = points.items()
    folder = tmp_path / "site-packages"
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{value.partition(':')[0]}.py").write_text(module)
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(folder)
    invalidate_caches()
    yield name
    sys.modules.pop(value.partition(":")[0], None)


def test_it_trains_a_private_round_at_a_real_agent(
    installed: str, tmp_path: Path, archive: Path
) -> None:
    assert installed in model_names()
    assert model_entry(installed).about
    require_safe(installed, check_model(installed))
    plan = tiny_plan(installed)
    hospital = build_hospital(tmp_path / "site", archive, plan)
    before = SiteModel.build(plan, small_atlas()).shared_arrays()
    agent = hospital.agent()
    try:
        _, arrays = opened(agent, agent.handle(hospital.instruction(before)))
    finally:
        agent.close()
    assert {n: a.shape for n, a in arrays.items()} == {n: a.shape for n, a in before.items()}
    assert all(a.any() for a in arrays.values())


def test_its_decision_is_not_corrected_because_nobody_knows_its_class_biases(
    installed: str,
) -> None:
    plan = tiny_plan(installed, calibration={"rule": "prior_free", "noise_multiplier": 3.0})
    shared = SiteModel.build(plan, small_atlas()).shared_arrays()
    with pytest.raises(SmrfedError, match="SMR-E570"):
        require_head(plan, shared)


def test_without_the_package_a_plan_is_refused_by_name() -> None:
    assert "mean-grey" not in model_names()
    with pytest.raises(SmrfedError, match="SMR-E601"):
        model_entry("mean-grey")


def test_a_package_cannot_take_the_name_of_a_model_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "sly-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: sly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nsmrnet = os:path\n")
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    with pytest.raises(SmrfedError, match="SMR-E601"):
        model_entry("smrnet")
