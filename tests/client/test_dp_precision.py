"""Training in bfloat16: close to float32, with gradients, norms and clipping in float32 and 64."""

from __future__ import annotations

import pytest
import torch
from dp_engine_fixture import engine, one_by_one
from small_site import FixedRandom, small_model, small_plan, volume_patients
from torch.nn.functional import cosine_similarity

from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import LoopGradients
from client.training.precision import has_bfloat16, in_precision
from client.training.site_model import SiteModel


def bfloat16_model(encoder: str = "shared") -> SiteModel:
    return small_model(small_plan(encoder=encoder, training={"precision": "bfloat16"}))


@pytest.mark.parametrize("clip", [1e-3, 0.05, 100.0])
def test_the_bound_holds_for_what_is_summed(clip: float) -> None:
    site_model = bfloat16_model()
    flat = FlatParameters(site_model.parameters(site_model.groups["shared"]))
    forward = in_precision(site_model, force=True)
    private = engine(flat, LoopGradients(forward, flat), FixedRandom(), clip=clip)
    for patient in volume_patients(2):
        alone = private.clipped_sum([patient])
        assert alone.dtype == torch.float64
        assert float(alone.norm()) <= clip
        truth = one_by_one(site_model, patient)  # in float32
        assert float(cosine_similarity(alone, truth, dim=0)) > 0.99
    assert flat.gradient.dtype == torch.float32


def test_the_passes_are_in_bfloat16_and_the_logits_in_float32() -> None:
    site_model = bfloat16_model()
    seen = []
    site_model.model.encoder.stages[0].down.conv.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: seen.append(output.dtype)
    )
    volumes = torch.cat([p.inputs for p in volume_patients(2)])  # type: ignore[misc]
    logits = in_precision(site_model, force=True)(volumes).logits
    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32


def test_float32_plans_and_cached_tokens_are_left_alone() -> None:
    plain = small_model(small_plan(encoder="shared"))
    assert in_precision(plain, force=True) == plain.output
    tokens = bfloat16_model("frozen")
    assert in_precision(tokens, force=True) == tokens.output


def test_without_the_hardware_the_plan_is_trained_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.training.precision.has_bfloat16", lambda device: False)
    site_model = bfloat16_model()
    assert in_precision(site_model) == site_model.output


def test_unknown_hardware_has_no_bfloat16() -> None:
    assert not has_bfloat16(torch.device("meta"))
