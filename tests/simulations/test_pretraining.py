"""The public pretraining learns, touches only what is public, and writes what it trained."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from public_blobs import ATLAS, REGIONS, Blobs, blob_model
from small_site import GRID, small_plan
from typer.testing import CliRunner

from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.tokens import Tokens
from simulations.cli import app
from simulations.cohort.cohort import CohortFolders
from simulations.demo.settings import WeightsCard, read_weights_card
from simulations.pretraining.public_data import PublicData
from simulations.pretraining.train import (
    EpochReport,
    PretrainingOptions,
    ReadoutOptions,
    fit_readout,
    pretrain,
)
from simulations.pretraining.weights_file import public_arrays, write_weights

OPTIONS = PretrainingOptions(epochs=4, learning_rate=5e-3, validation_share=0.2)


def trained(
    public: Blobs, options: PretrainingOptions = OPTIONS
) -> tuple[SMRNet, list[EpochReport]]:
    model, reports = blob_model(), []
    pretrain(model, public, options, reports.append)
    return model, reports


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    return Blobs(20)


@pytest.fixture(scope="module")
def result(blobs: Blobs) -> tuple[SMRNet, list[EpochReport]]:
    return trained(blobs)


def of_part(model: SMRNet, part: str) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if n.startswith(part)}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def tokens_of(model: SMRNet, public: Blobs, seed: int) -> Tokens:
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        return Tokens.cat(
            [
                model.tokenise(torch.from_numpy(public.look(row, rng))[None])
                for row in range(len(public))
            ]
        )


def correlations(estimate: torch.Tensor, truth: np.ndarray) -> np.ndarray:
    """``(S, R)`` over subjects; ``estimate`` ``(N, S, R)``, ``truth`` ``(N, R)``."""
    return np.asarray(
        [
            [
                np.corrcoef(estimate[:, scale, region].numpy(), truth[:, region])[0, 1]
                for region in range(truth.shape[1])
            ]
            for scale in range(estimate.shape[1])
        ]
    )


def test_the_losses_fall(result: tuple[SMRNet, list[EpochReport]]) -> None:
    _, reports = result
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    first, last = reports[0], reports[-1]
    assert last.training_loss < 0.7 * first.training_loss
    assert last.training_tissue_loss < 0.7 * first.training_tissue_loss
    assert last.training_tissue_loss < last.training_loss


def test_only_the_encoder_is_trained_and_its_site_residuals_end_at_zero(
    result: tuple[SMRNet, list[EpochReport]],
) -> None:
    model, fresh = result[0], blob_model()
    assert same(of_part(model, "reasoner."), of_part(fresh, "reasoner."))
    assert same(of_part(model, "standardiser."), of_part(fresh, "standardiser."))
    before = of_part(fresh, "encoder.")
    for name, value in of_part(model, "encoder.").items():
        if name.endswith((".site_scale", ".site_shift")):
            assert not value.any(), name
        else:
            assert not torch.equal(value, before[name]), name


def test_the_seed_fixes_every_bit_and_the_global_random_state_is_left_alone(
    blobs: Blobs, result: tuple[SMRNet, list[EpochReport]]
) -> None:
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    again, reports = trained(blobs)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(of_part(again, "encoder."), of_part(result[0], "encoder."))
    assert reports == result[1]
    other, _ = trained(blobs, PretrainingOptions(epochs=1, seed=1))
    assert not same(of_part(other, "encoder."), of_part(again, "encoder."))


def test_the_number_of_looks_is_known_beforehand() -> None:
    public = Blobs(7)
    options = PretrainingOptions(epochs=2, validation_share=0.3)
    assert options.watched(7) == 2
    trained(public, options)
    assert public.looks == options.looks(7) == 2 * 5 + 2


def test_the_readout_recovers_a_planted_quantity_in_subjects_it_has_not_seen(
    blobs: Blobs, result: tuple[SMRNet, list[EpochReport]]
) -> None:
    model, new = blob_model(), Blobs(16, seed=1)
    model.load_state_dict(result[0].state_dict())
    encoder = of_part(model, "encoder.")
    fit_readout(model, blobs, ReadoutOptions(looks=2, ridge=1.0))
    assert same(of_part(model, "encoder."), encoder)
    assert not any(p.requires_grad for p in model.standardiser.parameters())
    tokens = tokens_of(model, new, seed=3)
    assert tokens.regions.shape[2:] == (REGIONS, 2)
    assert correlations(tokens.regions[..., 0], new.planted)[0].min() > 0.8
    # Read-outs are deviations from the public subjects, of unit size over all of them.
    public = tokens_of(model, blobs, seed=4).regions
    assert public.mean((0, 1, 2)).abs().max() < 0.1
    assert public[..., 0].square().mean().sqrt().item() == pytest.approx(1, abs=0.15)


def test_the_readout_finds_nothing_in_other_subjects_truth(blobs: Blobs) -> None:
    model, new = blob_model(), Blobs(16, seed=1)
    fit_readout(model, blobs, ReadoutOptions(looks=1, ridge=1.0))
    # The second quantity belongs to another subject: it is independent of the image.
    found = correlations(tokens_of(model, new, seed=3).regions[..., 1], new.planted)
    assert abs(found.mean()) < 0.35


def test_a_model_without_readout_is_refused(blobs: Blobs) -> None:
    with pytest.raises(TypeError, match="normative"):
        fit_readout(blob_model(normative=None), blobs, ReadoutOptions())


def plan_with(card: WeightsCard, grid_mm: float) -> FederationPlan:
    data = small_plan("none").model_dump(mode="json")
    data["input"] |= {"grid": {"spacing_mm": grid_mm}}
    data["model"] = {"name": card.model, "config": card.config, "weights_sha256": card.sha256}
    data["atlas"]["sha256"] = card.atlas_sha256
    data["groups"] = default_groups(card.model).model_dump(mode="json")
    return FederationPlan.parse(data)


def test_a_hospital_computes_the_tokens_that_the_readout_was_fitted_on(
    blobs: Blobs, result: tuple[SMRNet, list[EpochReport]], tmp_path: Path
) -> None:
    model = blob_model()
    model.load_state_dict(result[0].state_dict())
    fit_readout(model, blobs, ReadoutOptions(looks=1))
    path = tmp_path / "weights.safetensors"
    card = write_weights(model, path, atlas_sha256=ATLAS.sha256, trained_on="blobs", command="none")
    assert read_weights_card(path.with_suffix(".json")) == card
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card.sha256
    assert card.config == {"width": 4, "normative_features": 2}
    site = SiteModel.build(plan_with(card, GRID.spacing_mm), ATLAS, (tmp_path,))
    assert site.uses_tokens
    volume = torch.from_numpy(blobs.look(0, np.random.default_rng(8)))[None]
    with torch.no_grad():
        expected = model.tokenise(volume)
    found = site.tokenise(volume)
    assert torch.equal(found.regions, expected.regions)
    assert torch.equal(found.slices, expected.slices)


def test_weights_that_would_lose_a_site_residual_are_not_written() -> None:
    model = blob_model()
    residual = next(p for n, p in model.named_parameters() if n == "encoder.stem.norm.site_scale")
    torch.nn.init.constant_(residual, 0.1)
    with pytest.raises(ValueError, match=r"encoder\.stem\.norm\.site_scale"):
        public_arrays(model)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves behind, with sizes that learn nothing."""
    out = tmp_path_factory.mktemp("pretrain")
    sizes = ["--subjects", "4", "--epochs", "1", "--width", "2"]
    result = CliRunner().invoke(app, ["pretrain", "--out", str(out), *sizes])
    assert result.exit_code == 0, result.output
    digest = hashlib.sha256((out / "smrnet-w2-synthetic-morphometry.safetensors").read_bytes())
    assert digest.hexdigest() in result.stdout
    return out


def test_the_command_writes_weights_that_a_plan_can_start_from(written: Path) -> None:
    card = read_weights_card(written / "smrnet-w2-synthetic-morphometry.json")
    assert card.command == "smrfed-sim pretrain --subjects 4 --epochs 1 --width 2"
    assert card.trained_on.startswith("4 public synthetic subjects (seed 1)")
    plan = plan_with(card, 2.0)
    atlas = load_atlas(plan.atlas, plan.input.grid)
    site = SiteModel.build(plan, atlas, (written,))
    public = PublicData(CohortFolders(written / "public"), atlas)
    volume = torch.from_numpy(public.look(0, np.random.default_rng(0)))[None]
    tokens = site.tokenise(volume)
    assert tokens.regions.shape == (1, 3, len(atlas.names), 3)
    assert tokens.regions.isfinite().all()
    assert tokens.regions.std() > 0.1
    assert torch.isfinite(site.logits(tokens)).all()


def test_no_diagnosis_reaches_the_targets(written: Path, tmp_path: Path) -> None:
    folders = CohortFolders(tmp_path)
    folders.volumes.symlink_to(written / "public" / "volumes")
    for path in (written / "public" / "truth").glob("*/*.json"):
        truth = json.loads(path.read_text())
        del truth["diagnosis"]
        for visit in truth["visits"]:
            del visit["severity"], visit["coarse"], visit["fine"]
        blind = folders.truth / path.parent.name / path.name
        blind.parent.mkdir(parents=True, exist_ok=True)
        blind.write_text(json.dumps(truth))
    card = read_weights_card(written / "smrnet-w2-synthetic-morphometry.json")
    plan = plan_with(card, 2.0)
    atlas = load_atlas(plan.atlas, plan.input.grid)
    seen = PublicData(CohortFolders(written / "public"), atlas)
    unseen = PublicData(folders, atlas)
    for name in ("volumes", "csf", "person"):
        assert torch.equal(getattr(seen.targets, name), getattr(unseen.targets, name))
    assert torch.equal(seen.region_truth, unseen.region_truth)
    assert torch.equal(seen.slice_truth, unseen.slice_truth)


def test_the_command_refuses_a_folder_with_other_subjects(written: Path) -> None:
    sizes = ["--subjects", "5", "--epochs", "1", "--width", "2"]
    result = CliRunner().invoke(app, ["pretrain", "--out", str(written), *sizes])
    assert isinstance(result.exception, SmrfedError)
    assert result.exception.code == "SMR-E632"
