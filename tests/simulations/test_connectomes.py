"""Synthetic connectomes: their truth, and a federation with privacy through the real agents."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from server.checkpoints.run_directory import RunDirectory
from shared_model.connex.coupling import regional_coupling
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import decode_arrays
from simulations.arms.hospital import load_hospital
from simulations.cli import app
from simulations.connectomes.archive import write_archives
from simulations.connectomes.federated import hospitals_of
from simulations.connectomes.measures import logistic_figures
from simulations.connectomes.page import END, START
from simulations.connectomes.people import make_cohort
from simulations.connectomes.plans import StudyPlans, no_atlas
from simulations.connectomes.pooled import People, figures, trained, trained_in_phases, without
from simulations.connectomes.spec import ConnectomeSpec
from simulations.connectomes.tensors import edge_table
from simulations.federation.run import open_run, run_in_process

SMALL = {"width": 4, "mixer_tokens": 3, "mixer_channels": 4}
SPEC = ConnectomeSpec(sites=("harbour", "hill"), patients=20, regions=8, planted=3, missing=0.3)


def test_planted_edges_differ_and_no_other() -> None:
    spec = ConnectomeSpec(patients=150, regions=12, planted=6, effect=2.0, site_effects=0.0)
    people = People.of(make_cohort(spec))
    everybody = (*people.train, *people.test)
    table, label = edge_table(everybody), np.array([person.label for person in everybody])
    halves = np.split(table[label == 1].mean(0) - table[label == 0].mean(0), 2)
    upper = np.triu_indices(spec.regions, 1)
    for half, truth in zip(halves, people.cohort.anatomy.changed, strict=True):
        planted = truth[upper]
        assert np.abs(half[planted != 0]).min() > 3 * np.abs(half[planted == 0]).mean()
        assert (np.sign(half) == planted)[planted != 0].all()
    found = logistic_figures(people.train, people.test, people.cohort.anatomy)
    assert found["auroc"] > 0.95


def test_in_the_interaction_no_modality_and_no_linear_score_tells_the_class() -> None:
    spec = ConnectomeSpec(patients=100, regions=10, effect=3.0, task="interaction")
    people = People.of(make_cohort(spec))
    found = logistic_figures(people.train, people.test, people.cohort.anatomy)
    assert abs(found["auroc"] - 0.5) < 0.2


def test_the_coupling_of_regions_is_recovered() -> None:
    means = []
    for planted in (0.0, 0.3, 0.6):
        spec = ConnectomeSpec(patients=5, regions=40, coupling=planted, site_effects=0.0, effect=0)
        cohort = make_cohort(spec)
        people = [person for site in cohort.sites.values() for person in site]
        found = np.mean(
            [regional_coupling(p.structural, p.functional) for p in people],  # type: ignore[arg-type]
            axis=0,
        )
        means.append(found.mean())
    truth = cohort.anatomy.coupling
    assert spearmanr(truth, found).statistic > 0.5
    assert abs(means[0]) < 0.1
    assert means[0] < means[1] < means[2]


def test_a_cohort_is_drawn_again_and_sites_lose_edges() -> None:
    first, second = make_cohort(SPEC), make_cohort(SPEC)
    for name in SPEC.sites:
        for one, other in zip(first.sites[name], second.sites[name], strict=True):
            assert one.label == other.label
            assert (one.structural is None) == (other.structural is None)
            if one.structural is not None and other.structural is not None:
                np.testing.assert_array_equal(one.structural, other.structural)
                np.testing.assert_array_equal(one.structural, one.structural.T)
    gone = without(first.sites["hill"], "functional")
    assert all(person.functional is None for person in gone)


def test_the_phases_train_what_they_say(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"missing": 0.0})
    people, plans = People.of(make_cohort(spec)), StudyPlans.of(spec, tmp_path)
    base, mask, tuned = trained_in_phases(plans, people.train, 1)
    assert mask.groups["shared"] == ("network.mask.logits",)
    assert "network.mask.logits" in tuned.groups["frozen"]
    for name in tuned.groups["shared"]:
        (before,), (kept,), (after,) = (m.parameters([name]) for m in (base, mask, tuned))
        assert (before == kept).all()
        assert (kept != after).any(), name


def test_the_mask_finds_the_planted_edges(tmp_path: Path) -> None:
    spec = ConnectomeSpec(patients=60, regions=10, planted=5, effect=1.2)
    people, plans = People.of(make_cohort(spec)), StudyPlans.of(spec, tmp_path)
    found = figures(trained(plans, people.train, {}, 30), people)
    assert found["mask_auroc_structural"] >= 0.8
    assert found["mask_auroc_functional"] >= 0.8
    assert found["auroc"] > 0.7


def test_one_federation_with_privacy_through_the_real_agents(tmp_path: Path) -> None:
    cohort, plans = make_cohort(SPEC), StudyPlans.of(SPEC, tmp_path / "weights")
    workspace = hospitals_of(write_archives(cohort, tmp_path / "archives"), tmp_path, plans.weights)
    plan = plans.plan(dict.fromkeys(SPEC.sites, 15), rounds=1, epsilon=8.0, options=SMALL)
    initial = plans.model(plan).shared_arrays()
    run = open_run(tmp_path / "run", plan, initial, "connex")
    run_in_process(plan, workspace, run, no_atlas())
    released = decode_arrays(RunDirectory.open(tmp_path / "run").latest().release_body)
    assert all((released[name] != value).any() for name, value in initial.items())
    assert not any(name.startswith("reference") for name in released)

    model = plans.model(plan)
    hospital = load_hospital(workspace.site_config("hill"), plan, model)
    by_id = {f"sub-{person.id}": person for person in cohort.sites["hill"]}
    flags = {p.id: p.inputs.present[0].tolist() for p in hospital.train}  # type: ignore[union-attr]
    for name, found in flags.items():
        person = by_id[name]
        assert found == [person.structural is not None, person.functional is not None]
    # Another parcellation, of as many regions, is refused before anything is trained.
    config = {**plan.model.config, "parcellation_sha256": "0" * 64}
    other = plan.model_copy(update={"model": plan.model.model_copy(update={"config": config})})
    with pytest.raises(SmrfedError, match="SMR-E490"):
        load_hospital(workspace.site_config("hill"), other, plans.model(other))


def test_a_person_may_lack_one_modality_only() -> None:
    cohort = make_cohort(SPEC)
    people = [person for site in cohort.sites.values() for person in site]
    lacking = [p for p in people if p.structural is None or p.functional is None]
    assert 0 < len(lacking) < len(people)
    assert all(p.structural is not None or p.functional is not None for p in people)
    assert np.isnan(edge_table([replace(lacking[0])])).any()


def test_the_command_records_and_renews_the_page(tmp_path: Path) -> None:
    page, record = tmp_path / "page.md", tmp_path / "record.json"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    command = ["connectome-study", "--out", str(tmp_path / "out"), "--record", str(record)]
    command += ["--page", str(page), "--seed", "1", "--patients", "20", "--item"]
    result = CliRunner().invoke(app, [*command, "coupling"], catch_exceptions=False)
    assert result.exit_code == 0
    assert len(json.loads(record.read_text())["arms"]) == 4
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "old" not in text
    with pytest.raises(SmrfedError, match="SMR-E735"):
        CliRunner().invoke(app, [*command, "nothing"], catch_exceptions=False)
