"""A drafted plan is valid, keeps its budget, and a run can begin with it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from client.egress.policy import SitePolicy
from client.training.site_model import SiteModel
from server.cli import app
from server.plan_drafting.draft import SPARE_ROUNDS, draft_plan
from server.plan_drafting.initial import initial_parameters
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.registry import default_groups, model_entry, model_names

SITES = {"clinic-a": 120, "clinic-b": 80, "clinic-c": 60}


def parsed(**options: object) -> FederationPlan:
    return FederationPlan.parse(tomllib.loads(draft_plan("a study", SITES, seed=1, **options)))  # type: ignore[arg-type]


@settings(max_examples=8, deadline=None)
@given(
    epsilon=st.floats(1.0, 12.0), rounds=st.integers(1, 60), every=st.sampled_from([0, 1, 10, 60])
)
def test_a_draft_keeps_its_budget_with_rounds_to_spare(
    epsilon: float, rounds: int, every: int
) -> None:
    plan = parsed(epsilon=epsilon, rounds=rounds, every=every)
    assert plan_epsilon(plan, spare_rounds=SPARE_ROUNDS) <= epsilon
    assert plan.weights.keys() == SITES.keys()


def test_a_draft_has_the_groups_of_the_registry_and_a_majority_as_quorum() -> None:
    plan = parsed()
    assert plan.groups == default_groups(plan.model.name, "residual", "frozen")
    assert plan.federation.min_sites == 2
    assert parsed(scans="aligned").input.preparation.source == "mni152"
    assert parsed(mode="none", every=5).privacy.noise_multiplier == 0


def test_another_disease_is_an_option(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    asked = ["plan", "new", str(path), "--site", "a=60", "--labels", "ftd", "--privacy", "none"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert FederationPlan.load(path).task.labels == ("CN", "bvFTD", "svPPA")
    unknown = CliRunner().invoke(app, [*asked[:2], str(tmp_path / "x.toml"), *asked[3:6], "als"])
    assert isinstance(unknown.exception, SmrfedError)
    assert unknown.exception.code == "SMR-E750"


def test_the_policy_that_init_writes_admits_a_draft(tmp_path: Path) -> None:
    from client.commands.templates import POLICY_TOML

    (tmp_path / "policy.toml").write_text(POLICY_TOML)
    policy = SitePolicy.load(tmp_path / "policy.toml")
    policy.admit_plan(parsed())
    with pytest.raises(SmrfedError, match="SMR-E364"):
        policy.admit_plan(parsed(every=5))


@pytest.mark.parametrize("model", model_names())
def test_a_draft_for_any_model_keeps_its_budget(model: str) -> None:
    plan = parsed(model=model, rounds=4)
    entry = model_entry(model)
    assert plan.model.name == model
    assert plan.task.kind == entry.task
    assert plan.groups == default_groups(model, plan.adaptation.site_norm, "frozen")
    assert plan_epsilon(plan, spare_rounds=SPARE_ROUNDS) <= plan.privacy.epsilon
    assert plan.training.rounds == 4


def test_a_draft_of_the_family_of_smrnet_begins_with_its_public_encoder() -> None:
    plan, usual = parsed(model="smrnet-volumes"), parsed()
    assert plan.model.weights_sha256 == usual.model.weights_sha256
    assert plan.input.clinical.width
    assert parsed(model="vit-3d").model.weights_sha256 is None


def test_only_the_usual_model_is_drafted_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.plan_drafting.initial._NEEDED", ("no_such_module",))
    assert parsed().model.name == "smrnet"
    with pytest.raises(SmrfedError, match="SMR-E558"):
        parsed(model="vit-3d")


def test_initial_parameters_are_those_of_the_hospitals_model() -> None:
    plan = parsed()
    site = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid)).shared_arrays()
    found = initial_parameters(plan)
    assert found.keys() == site.keys()
    assert all(np.array_equal(found[name], site[name]) for name in site)


def test_without_torch_it_says_where_to_compute_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.plan_drafting.initial._NEEDED", ("no_such_module",))
    with pytest.raises(SmrfedError, match="SMR-E558"):
        initial_parameters(parsed())


def test_from_an_empty_folder_to_a_run_by_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMRFED_HOME", str(tmp_path / "home"))

    def say(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        if done.exception is not None:
            raise done.exception
        return done.stdout

    say("init", "--address", "localhost:4443")
    new = ("plan", "new", "plan.toml", "--site", "a=12", "--site", "b=9", "--privacy", "none")
    say(*new)
    with pytest.raises(SmrfedError, match="SMR-E559"):
        say(*new)
    say("plan", "initial", "plan.toml", "initial.safetensors")
    say("create", "plan.toml", "study-1", "--initial", "initial.safetensors")
    assert (tmp_path / "home" / "runs" / "study-1" / "plan.json").is_file()
    assert "0 of 30 completed" in say("status", "study-1")
    with pytest.raises(SmrfedError, match="SMR-E530"):
        say("status", "study-2")


@pytest.mark.parametrize("mode", ["distributed", "central"])
@pytest.mark.parametrize("sites", [2, 3, 4, 9])
def test_a_draft_of_a_secure_sum_names_every_key(mode: str, sites: int) -> None:
    names = {f"clinic-{k}": 50 + k for k in range(sites)}
    keys = {name: f"{k + 1:064x}" for k, name in enumerate(names)}
    text = draft_plan("sums", names, seed=1, mode=mode, rounds=20, signing_keys=keys)  # type: ignore[arg-type]
    plan = FederationPlan.parse(tomllib.loads(text))
    assert {site.name: site.signing_key for site in plan.federation.sites} == keys
    assert plan_epsilon(plan, spare_rounds=SPARE_ROUNDS) <= 8.0
    assert plan.secure_aggregation is not None
    assert plan.secure_aggregation.min_survivors == max(2, sites - 1)


def test_plan_new_takes_the_keys_from_the_registry(tmp_path: Path) -> None:
    from server.enrolment.registry import Registry

    asked = ["plan", "new", str(tmp_path / "p.toml"), "--site", "a=60", "--site", "b=50",
             "--privacy", "distributed", "--home", str(tmp_path)]  # fmt: skip
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, SmrfedError)
    assert refused.exception.code == "SMR-E566"
    registry = Registry(tmp_path / "registry.sqlite")
    for number, name in enumerate("ab"):
        registry.enrol(name, f"node {name}", number, f"{number + 1:064x}", 1)
    assert CliRunner().invoke(app, asked).exit_code == 0
    plan = FederationPlan.load(tmp_path / "p.toml")
    assert [site.signing_key for site in plan.federation.sites] == [f"{k:064x}" for k in (1, 2)]
