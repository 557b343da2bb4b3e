"""Public weights are found by digest or not at all; the packaged ones are what their card says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from client.prepared.intensity import standardise
from client.training.site_model import SiteModel
from shared_model.atlas.seeded import seeded_atlas
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import encode_arrays
from shared_model.public_weights import PACKAGED, find_public_weights, load_public_weights
from simulations.cohort.anatomy import anatomy_volume
from simulations.cohort.cohort import all_subjects
from simulations.cohort.design import public_cohort
from simulations.cohort.scanner import apply_scanner, random_scanner
from simulations.demo.settings import DemoSettings, demo_plan, read_weights_card

CARDS = sorted(PACKAGED.glob("*.json"))


def write(folder: Path, value: float, name: str = "weights.safetensors") -> str:
    """A weights file; its digest."""
    folder.mkdir(exist_ok=True)
    body = encode_arrays({"encoder.w": np.full((2, 3), value, np.float32)})
    (folder / name).write_bytes(body)
    return hashlib.sha256(body).hexdigest()


def code_of(error: pytest.ExceptionInfo[SmrfedError]) -> str:
    return error.value.code


def test_weights_are_found_by_their_content_whatever_their_name(tmp_path: Path) -> None:
    write(tmp_path, 1.0, "a.safetensors")
    wanted = write(tmp_path, 2.0, "b.safetensors")
    assert find_public_weights(wanted, (tmp_path,)) == tmp_path / "b.safetensors"
    arrays = load_public_weights(wanted, (tmp_path,))
    assert arrays.keys() == {"encoder.w"}
    assert (arrays["encoder.w"] == 2.0).all()


def test_another_digest_is_refused_and_names_where_it_was_looked_for(tmp_path: Path) -> None:
    digest = write(tmp_path, 1.0)
    wrong = ("0" if digest[0] != "0" else "1") + digest[1:]
    with pytest.raises(SmrfedError) as caught:
        load_public_weights(wrong, (tmp_path,))
    assert code_of(caught) == "SMR-E105"
    assert wrong in caught.value.render()
    assert str(tmp_path) in caught.value.render()


def test_one_changed_byte_is_another_file(tmp_path: Path) -> None:
    digest = write(tmp_path, 1.0)
    path = tmp_path / "weights.safetensors"
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(bytes(body))
    with pytest.raises(SmrfedError) as caught:
        find_public_weights(digest, (tmp_path,))
    assert code_of(caught) == "SMR-E105"


def test_the_environment_names_a_folder_that_comes_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = write(tmp_path / "env", 1.0)
    monkeypatch.delenv("SMRFED_WEIGHTS", raising=False)
    with pytest.raises(SmrfedError):
        find_public_weights(digest)
    monkeypatch.setenv("SMRFED_WEIGHTS", str(tmp_path / "env"))
    assert find_public_weights(digest).parent == tmp_path / "env"
    assert write(tmp_path / "own", 1.0) == digest
    assert find_public_weights(digest, (tmp_path / "own",)).parent == tmp_path / "own"


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.stem)
def test_a_packaged_file_is_the_one_on_its_card(card: Path) -> None:
    found = read_weights_card(card)
    body = card.with_suffix(".safetensors").read_bytes()
    assert hashlib.sha256(body).hexdigest() == found.sha256
    assert found.atlas_sha256 == seeded_atlas().sha256
    for name, value in load_public_weights(found.sha256).items():
        assert name.startswith(("encoder.", "standardiser.")), name
        assert not name.endswith((".site_scale", ".site_shift")), name
        assert np.isfinite(value).all(), name


def test_every_packaged_file_has_a_card() -> None:
    assert CARDS
    assert [path.stem for path in CARDS] == [p.stem for p in sorted(PACKAGED.glob("*.safetensors"))]


@pytest.fixture(scope="module")
def model() -> SiteModel:
    """A hospital's model of the demonstration, on the packaged weights."""
    plan = demo_plan(DemoSettings(), {"site-a": 60, "site-b": 60}, "none")
    return SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))


def test_a_hospital_starts_from_the_packaged_weights(model: SiteModel) -> None:
    assert model.uses_tokens
    assert model.plan.model.weights_sha256 is not None
    parameters = dict(model.model.named_parameters())
    for name, value in load_public_weights(model.plan.model.weights_sha256).items():
        assert torch.equal(parameters[name].detach(), torch.from_numpy(value)), name
    assert not any(name.startswith(("encoder.", "standardiser.")) for name in model.shared_arrays())


def test_the_packaged_readout_is_centred_on_the_public_subjects(model: SiteModel) -> None:
    rng = np.random.default_rng(0)
    regions, slices = [], []
    for subject in all_subjects(public_cohort(320, seed=1))[::40]:
        clean, _, _ = anatomy_volume(subject)
        look = standardise(apply_scanner(clean, random_scanner(rng), rng))
        tokens = model.tokenise(torch.from_numpy(look)[None, None])
        regions.append(tokens.regions)
        slices.append(tokens.slices)
    # Eight people: the mean of a read-out lies within a third of a standard deviation of zero.
    # Weights whose read-out was fitted on another encoder are off by more than a whole one.
    for part in (torch.cat(regions), torch.cat(slices)):
        centre, spread = part.mean(0), part.std(0)
        assert spread.max() > 0
        assert centre[spread == 0].abs().sum() == 0  # slices without brain
        varies = spread > 0
        assert centre[varies].abs().mean() < 0.65 * spread[varies].mean()
