"""The fusion as a hospital trains it: clinical columns, the real agent, and what it gains."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from agent_site import build_hospital, opened
from bids_fixture import people, write_bids
from registered_models import tiny_model, tiny_plan
from small_site import small_atlas

from client.egress.explanation import Circumstances, explain
from client.egress.policy import SitePolicy
from client.training.examples import PatientExamples
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.fusion.model import FusionTokens
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import SeededRandom
from simulations.multimodal.complementary import accuracy


def archive_with_clinical_data(root: Path) -> Path:
    write_bids(root, *people(9))
    table = root / "participants.tsv"
    head, *rows = table.read_text().splitlines()
    lines = [f"{head}\teducation\tapoe4"]
    lines += [f"{row}\t{10 + i}\t{'n/a' if i % 3 else 1}" for i, row in enumerate(rows)]
    table.write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("name", ["resnet50", "resnet50-3d", "multimodal"])
def test_a_private_round_through_the_agent(name: str, tmp_path: Path) -> None:
    plan = tiny_plan(name)
    archive = archive_with_clinical_data(tmp_path / "archive")
    hospital = build_hospital(tmp_path / "site", archive, plan)
    agent = hospital.agent()
    sent = SiteModel.build(plan, small_atlas()).shared_arrays()
    reply, arrays = opened(agent, agent.handle(hospital.instruction(sent)))
    assert arrays.keys() == sent.keys()
    assert not any(key.startswith(("encoder.", "vgg16.", "resnet50.")) for key in arrays)
    assert all(np.isfinite(value).all() and value.any() for value in arrays.values())
    assert reply.plan_digest == plan.digest


def test_an_archive_without_the_plans_columns_is_refused(tmp_path: Path) -> None:
    plan = tiny_plan("multimodal")
    hospital = build_hospital(tmp_path / "site", write_bids(tmp_path / "a", *people(9)), plan)
    agent = hospital.agent()
    sent = SiteModel.build(plan, small_atlas()).shared_arrays()
    with pytest.raises(SmrfedError) as caught:
        agent.handle(hospital.instruction(sent))
    assert caught.value.code == "SMR-E237"


def test_clinical_data_that_the_model_does_not_read_are_refused() -> None:
    plan = tiny_plan("vit-3d", input={"clinical": {"mode": "with-mmse"}})
    with pytest.raises(SmrfedError, match="reads no clinical data") as caught:
        SiteModel.build(plan, small_atlas())
    assert caught.value.code == "SMR-E305"


def test_a_hospital_is_told_which_clinical_data_a_plan_reads() -> None:
    around = Circumstances("a", None, False, None, 0.0, datetime(2026, 11, 22, tzinfo=UTC))
    for name, wanted in (
        ("multimodal", "scans, diagnoses; clinical data (without-cognition): age, sex, education"),
        ("unet", "scans, lesion masks; no clinical data; inputs of model unet"),
    ):
        lines = explain(SitePolicy(), tiny_plan(name), around)
        (read,) = (line for line in lines if line.subject == "read of patients")
        assert read.asks.startswith(wanted)


def test_a_plan_without_weights_says_so_knowingly() -> None:
    plan = tiny_plan("resnet50")
    data = plan.model_dump(mode="json")
    del data["model"]["config"]["seeded"]
    with pytest.raises(SmrfedError) as caught:
        SiteModel.build(FederationPlan.parse(data), small_atlas())
    assert caught.value.code == "SMR-E633"


@pytest.mark.parametrize("frozen", ["vgg16", "resnet50"])
def test_each_branch_is_frozen_or_trained(frozen: str) -> None:
    other = {"vgg16": "resnet50", "resnet50": "vgg16"}[frozen]
    groups = {"frozen": [f"{frozen}.*", "*.scale", "*.offset"], "site": ["place.*"]}
    plan = tiny_plan("multimodal", groups=groups)
    model = tiny_model(plan)
    assert not model.uses_tokens  # one of the two must be computed anew in every step
    before = model.shared_arrays()
    assert any(name.startswith(f"{other}.") for name in before)
    assert not any(name.startswith(f"{frozen}.") for name in before)
    rows = torch.Generator().manual_seed(0)
    from shared_model.fusion.model import VolumeAndClinical

    patients = [
        PatientExamples(
            str(i),
            VolumeAndClinical(
                torch.randn(1, 1, *model.sizes.grid.shape, generator=rows),
                torch.randn(1, model.sizes.clinical, generator=rows),
            ),
            torch.tensor([i % 3]),
        )
        for i in range(3)
    ]
    delta = train_round(model, patients, plan, "a", 1, "run").delta
    assert all(value.any() for value in delta.values())


@pytest.mark.slow
def test_fusion_beats_the_best_single_modality_where_they_complement_each_other() -> None:
    atlas = small_atlas()
    singles = ("clinical alone", "both networks alone")
    found = {arm: accuracy(arm, atlas, seed=1) for arm in (*singles, "fusion")}
    assert found["fusion"] >= max(found[arm] for arm in singles) + 0.1, found
    assert found["fusion"] >= 0.85, found


def recall_of_the_rare(mode: str, shares: list[float]) -> float:
    """Recall of class 1, one in ten of the training patients, from one clinical number."""
    privacy = {"mode": "local", "noise_multiplier": 1.0, "clipping_norm": 4.0}
    section = {"mode": "without-cognition", "variables": [{"name": "marker"}]}
    training = {"rounds": 2, "learning_rate": 0.3, "local_steps": 60}
    data = tiny_plan("multimodal").model_dump(mode="json")
    data["model"]["config"] |= {"backbones": [], "seeded": False}
    data["task"]["labels"] = ["common", "rare"]
    data["input"]["clinical"] = section
    data["training"] |= training | {"class_weighting": {"shares": shares}}
    data["privacy"] |= privacy if mode == "local" else {"mode": "none", "noise_multiplier": 0}
    data["federation"]["sites"] = [{"name": "a", "declared_patients": 300}]
    plan = FederationPlan.parse(data)
    model = SiteModel.build(plan, small_atlas())
    generator = torch.Generator().manual_seed(0)

    def patient(number: int, label: int) -> PatientExamples:
        value = torch.randn(1, 1, generator=generator) + 1.2 * label
        none = torch.zeros(1, 0)
        tokens = FusionTokens(none, none, torch.cat([value, torch.zeros(1, 1)], 1))
        return PatientExamples(str(number), tokens, torch.tensor([label]))

    train_round(model, [patient(i, int(i % 10 == 0)) for i in range(300)], plan, "a", 1, "run")
    held = torch.cat([patient(i, 1).inputs.clinical for i in range(200)])  # type: ignore[union-attr]
    none = torch.zeros(200, 0)
    model.model.eval()
    with torch.no_grad():
        said = model.logits(FusionTokens(none, none, held)).argmax(1)
    return float((said == 1).float().mean())


@pytest.mark.parametrize("mode", ["none", "local"])
def test_class_weights_raise_the_recall_of_a_rare_class(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "client.training.rounds.SecureRandom", lambda: SeededRandom(0, "a", 1, "noise")
    )
    plain, weighted = (recall_of_the_rare(mode, shares) for shares in ([], [0.9, 0.1]))
    assert plain <= 0.3
    assert weighted >= plain + 0.3
