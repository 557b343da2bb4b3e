"""``smrfed-sim models``: what it lists, what it shows, and what its check refuses."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ConfigDict
from registered_models import tiny_model, tiny_plan
from torch import Tensor, nn
from typer.testing import CliRunner

from shared_model import registry
from shared_model.errors import SmrfedError
from shared_model.groups import ParameterGroups
from shared_model.models.entry import ModelEntry, ModelFrame
from shared_model.registry import model_entry, model_names
from simulations.cli import app
from simulations.models.check import check_model, require_safe
from simulations.models.described import option_rows, plan_to_look_at

ROOT = Path(__file__).parents[2]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    classes: int = 3


@dataclass(frozen=True)
class Out:
    logits: Tensor


class Coarse(nn.Module):
    """A linear model of 2 x 2 x 2 means, with a mistake in it."""

    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake
        self.head = nn.Linear(8, 3)
        if mistake == "silent":
            self.unused = nn.Parameter(torch.ones(4))
        if mistake == "batch norm":
            self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Out:
        z = nn.functional.adaptive_avg_pool3d(x, 2).flatten(1)
        if self.mistake == "coupled":
            z = z - z.mean(0)
        return Out(self.head(z))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    def register(mistake: str) -> str:
        def build(config: Options, frame: ModelFrame) -> nn.Module:
            return Coarse(mistake)

        entry = ModelEntry(
            config=Options,
            build=build,
            groups=lambda site_norm, encoder: ParameterGroups(),
            about="A mistake.",
        )
        monkeypatch.setitem(registry._REGISTERED, "broken", entry)
        return "broken"

    return register


def test_a_model_without_a_mistake_is_safe(broken: Callable[[str], str]) -> None:
    require_safe("broken", check_model(broken("none")))


@pytest.mark.parametrize(
    ("mistake", "says"),
    [("coupled", "moves the clipped sum"), ("silent", "without a gradient: 1 of 3: unused")],
)
def test_a_mistake_is_named(mistake: str, says: str, broken: Callable[[str], str]) -> None:
    with pytest.raises(SmrfedError, match="SMR-E745") as caught:
        require_safe("broken", check_model(broken(mistake)))
    assert says in str(caught.value.found)


def test_batch_normalisation_is_refused_before_that(broken: Callable[[str], str]) -> None:
    with pytest.raises(SmrfedError, match="SMR-E605"):
        check_model(broken("batch norm"))


def test_the_command_ends_with_an_error_where_a_check_fails(broken: Callable[[str], str]) -> None:
    result = CliRunner().invoke(app, ["models", "check", broken("coupled")])
    assert result.exit_code != 0
    assert "FAILED" in result.stdout
    assert isinstance(result.exception, SmrfedError)


def test_the_smallest_vit_and_smrnet_pass_the_command() -> None:
    for name in ("smrnet-volumes", "vit-3d"):
        result = CliRunner().invoke(app, ["models", "check", name, "--json"])
        assert result.exit_code == 0, result.output
        assert all(row["passed"] for row in json.loads(result.stdout))


def test_show_prints_sections_that_are_a_plan() -> None:
    result = CliRunner().invoke(app, ["models", "show", "vit-3d", "--option", "depth=2"])
    assert result.exit_code == 0, result.output
    sections = tomllib.loads(result.stdout.split("# sections of a plan, TOML\n")[1])
    assert sections["model"] == {"name": "vit-3d", "config": {"depth": 2}}
    assert "transformer blocks" in result.stdout
    plan = plan_to_look_at("vit-3d", sections["model"]["config"])
    assert plan.groups.model_dump(mode="json") == sections["groups"]


def test_show_refuses_options_that_the_model_does_not_have() -> None:
    for option in ("depth=0", "nope=1"):
        result = CliRunner().invoke(app, ["models", "show", "vit-3d", "--option", option])
        assert isinstance(result.exception, SmrfedError)
        assert result.exception.code == "SMR-E602"
        assert result.stdout == ""


def test_show_names_the_ladder_of_the_article_and_the_scenario_has_its_steps() -> None:
    result = CliRunner().invoke(app, ["models", "show", "smrnet"])
    presets = model_entry("smrnet").presets
    assert list(presets) == ["BaseNet", "SMR-M", "SMR-MF", "SMR-MFA", "SMR-Net"]
    assert all(name in result.stdout for name in presets)
    scenario = tomllib.loads((ROOT / "simulations" / "scenarios" / "ladder.toml").read_text())
    plans = [arm.get("plan", {}) for arm in scenario["arms"].values()]
    steps = [plan.get("model", {}).get("config", {}) for plan in plans]
    assert steps == [dict(options) for options in presets.values()]


def test_every_step_of_the_ladder_is_a_model_of_its_own() -> None:
    small = model_entry("smrnet").tiny
    sizes = [
        sum(
            p.numel()
            for p in tiny_model(tiny_plan("smrnet", model={"config": {**small, **options}})).model
            .parameters()
        )
        for options in model_entry("smrnet").presets.values()
    ]  # fmt: skip
    assert sizes[0] < sizes[2] < sizes[3] < sizes[4]
    assert sizes[1] >= sizes[0]


def test_a_preset_is_made_of_options_that_there_are() -> None:
    for name in model_names():
        entry = model_entry(name)
        for options in entry.presets.values():
            assert set(options) <= {row[0] for row in option_rows(name)}


def test_the_page_lists_every_model() -> None:
    page = (ROOT / "docs" / "models.md").read_text("utf-8")
    assert not [name for name in registry._OWN if f"| `{name}` |" not in page]


def test_an_option_that_is_not_key_and_value_is_refused() -> None:
    assert CliRunner().invoke(app, ["models", "show", "smrnet", "--option", "depth"]).exit_code == 2
