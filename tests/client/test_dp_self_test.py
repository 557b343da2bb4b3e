"""The numeric self-test of the privacy engine, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from small_site import small_model, small_plan
from torch import Tensor, nn

from client.training import patient_optimizer
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.site_model import SiteModel
from shared_model.adaptation.alignment import SiteConfusion
from shared_model.errors import SmrfedError


class BatchNormModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(30, 3)

    def forward(self, x: Tensor) -> object:
        return SimpleNamespace(logits=self.head(self.norm(x).flatten(1)))


class MeanModel(BatchNormModel):
    """Couples patients without any buffer."""

    def forward(self, x: Tensor) -> object:
        return SimpleNamespace(logits=self.head((x - x.mean(0) / 2).flatten(1)))


def test_a_missing_clip_is_noticed_by_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    site_model = small_model(small_plan())
    inputs = synthetic_inputs(site_model)
    monkeypatch.setattr(patient_optimizer, "CLIPPING_MARGIN", -1e12)
    with pytest.raises(SmrfedError, match="SMR-E308"):
        sensitivity_self_test(site_model, inputs)


@pytest.mark.parametrize("broken", [BatchNormModel, MeanModel])
def test_the_self_test_refuses_models_that_couple_patients(broken: type[nn.Module]) -> None:
    plan = small_plan().model_copy(update={"groups": small_plan().groups.model_copy(
        update={"frozen": (), "shared": ("*",), "site": ()})})  # fmt: skip
    site_model = SiteModel(broken(), plan)
    inputs = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(SmrfedError, match="SMR-E308"):
        sensitivity_self_test(site_model, inputs)


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_the_self_test_passes_smrnet_and_the_clip_is_tight(encoder: str) -> None:
    site_model = small_model(small_plan(encoder=encoder))
    worst = sensitivity_self_test(site_model, synthetic_inputs(site_model, 2))
    assert 0.99 < worst <= 1


def _layer_b(use: str) -> dict[str, object]:
    return {"site_moments": use, "moments_weight": 1.0, "moments_noise_multiplier": 8.0}


@pytest.mark.parametrize("use", ["confusion", "linear"])
@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_the_self_test_passes_the_losses_of_layer_b(use: str, encoder: str) -> None:
    plan = small_plan(encoder=encoder, adaptation=_layer_b(use))
    site_model = small_model(plan)
    assert 0.99 < sensitivity_self_test(site_model, synthetic_inputs(site_model, 2)) <= 1


def test_a_loss_that_looks_at_two_patients_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_the_batch(self: SiteConfusion, embedding: Tensor, labels: Tensor) -> Tensor:
        return (embedding - embedding.mean(0)).square().sum(1)

    plan = small_plan(adaptation=_layer_b("confusion"))
    site_model = small_model(plan)
    inputs = synthetic_inputs(site_model)
    monkeypatch.setattr(SiteConfusion, "__call__", of_the_batch)
    with pytest.raises(SmrfedError, match="SMR-E308"):
        sensitivity_self_test(site_model, inputs)
