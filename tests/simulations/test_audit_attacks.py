"""Inversion, similarity, patient canaries and the page of the audit."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from small_site import small_model, small_plan, token_patients
from typer.testing import CliRunner

from simulations.arms.train_rounds import train_rounds
from simulations.audit.inversion import standardised, total_variation
from simulations.audit.inversion_study import Inversion, invert_updates, small_patient
from simulations.audit.membership import membership
from simulations.audit.page import write_page
from simulations.audit.patient_canaries import mislabelled
from simulations.audit.patient_scores import loss_scores, update_scores
from simulations.audit.results import AuditReport, GaussianEstimate, Power
from simulations.audit.similarity import psnr, ssim, to_unit
from simulations.audit.summary import print_summary
from simulations.audit.verdict import Verdict
from simulations.cli import app


def test_similarity_is_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(9, 10, 11, generator=generator)
    other = (image + 0.2 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    inside = torch.ones(image.shape, dtype=torch.bool)
    assert ssim(image, image, inside) == pytest.approx(1)
    assert psnr(image, image, inside) == math.inf
    error = float(((image - other).double() ** 2).mean())
    assert psnr(other, image, inside) == pytest.approx(-10 * math.log10(error))
    # One voxel of SSIM by hand: the Gaussian window around (4, 4, 4).
    axis = np.exp(-((np.arange(7) - 3) ** 2) / (2 * 1.5**2))
    window = np.einsum("i,j,k", axis, axis, axis) / axis.sum() ** 3
    a, b = (v[1:8, 1:8, 1:8].double().numpy() for v in (image, other))
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    both = (window * a * b).sum() - mean_a * mean_b
    spread = (window * (a * a + b * b)).sum() - mean_a**2 - mean_b**2
    top = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
    expected = top / ((mean_a**2 + mean_b**2 + 1e-4) * (spread + 9e-4))
    here = torch.zeros_like(inside)
    here[4, 4, 4] = True
    assert ssim(image, other, here) == pytest.approx(expected, rel=1e-6)
    assert to_unit(torch.tensor([-1.0, 1.0, 9.0]), 0.0, 2.0).tolist() == [0, 0.5, 1]


def test_the_attackers_volume_is_standardised_as_prepared_volumes_are() -> None:
    volume, inside = small_patient(3)
    again = standardised(5 * volume + 2, inside)
    assert torch.allclose(again, volume, atol=1e-4)
    assert not again[~inside].any()
    ramp = torch.arange(8.0).view(2, 2, 2)
    assert float(total_variation(ramp)) == pytest.approx(1 + 2 + 4)


def test_inversion_finds_the_image_in_an_update_without_privacy_and_not_in_one_with() -> None:
    study = invert_updates(4.6, 0, steps=120, keys=("control", "control-private"))
    by_key = {attack.key: attack for attack in study.attacks}
    assert by_key["control"].ssim > 0.9
    assert by_key["control"].psnr_db > 20
    assert by_key["control-private"].ssim < 0.2
    assert by_key["control-private"].ssim < by_key["mask"].ssim + 0.2
    assert set(study.images) == {"original", "mask", "control", "control-private"}


def test_one_step_on_one_patient_points_at_that_patient() -> None:
    plan = small_plan("none", training={"rounds": 1, "local_steps": 1, "learning_rate": 0.5})
    model = small_model(plan)
    everybody = token_patients(model, 12, seed=4)
    wrong = mislabelled(everybody, 3, np.random.default_rng(0))
    assert all((w.labels != p.labels).all() for w, p in zip(wrong, everybody, strict=True))
    before = model.shared_arrays()
    sites = {"a": [wrong[7]], "b": [wrong[7]]}
    after = train_rounds(model, dict(before), sites, plan)
    scores = update_scores(model, [before, after], wrong)
    # No unit vector goes further along the update than the one that made it.
    length = math.sqrt(sum(float(((after[n] - before[n]) ** 2).sum()) for n in before))
    assert int(scores.argmax()) == 7
    assert scores[7] == pytest.approx(length, rel=1e-3)
    gain = loss_scores(model, after, wrong) - loss_scores(model, before, wrong)
    assert gain[7] > 0


def verdict(title: str, *, refuted: bool = False) -> Verdict:
    return Verdict(
        title=title,
        threat_model="sees <everything>",
        noise_multiplier=2.0,
        sampling_rate=0.5,
        steps=3,
        delta=1e-5,
        claimed_epsilon=3.0,
        epsilon_at_least=1.0,
        profile_epsilon_at_least=4.0 if refuted else 2.0,
        told="9 of 10",
        runs=2 if refuted else 1,
        refuted=refuted,
    )


def report(*, passed: bool) -> tuple[AuditReport, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    inversion = tuple(
        Inversion(
            key=key, title=f"{key}, {'with' if private else 'no'} privacy", private=private,
            parameters=10, cosine=0.5, ssim=0.5, psnr_db=9.0,
        )
        for key, private in (("mask", True), ("trained", False), ("trained-private", True))
    )  # fmt: skip
    images = {key: rng.random((8, 9, 8), np.float32) for key in ("original", "trained")}
    images["trained-private"] = images["mask"] = images["trained"]
    estimate = GaussianEstimate(
        claimed_epsilon=3.0, epsilon=2.9, low=2.0, high=4.0, separation=1.0, canaries=6,
        members=(0.1, 0.2, 0.3), outsiders=(0.0, 0.1, -0.1),
    )  # fmt: skip
    found = membership("loss", rng.random(30) + 0.2, rng.random(40), 0, draws=20)
    made = AuditReport(
        command="smrfed-sim audit --seed 3",
        created="2026-11-21T12:00:00+00:00",
        version="0",
        seed=3,
        patients=70,
        claimed_epsilon=3.0,
        delta=1e-5,
        engine=(verdict("crowd", refuted=not passed),),
        plan=(verdict("canaries <one run>"),),
        estimate=estimate,
        power=(Power(canaries=50, all_right=2.8, nine_of_ten_right=1.4),),
        membership=(found, found),
        inversion=inversion,
        inversion_noise_multiplier=4.6,
        passed=passed,
    )
    return made, images


@pytest.mark.parametrize("passed", [True, False])
def test_the_page_is_one_file_that_says_what_was_found(tmp_path: Path, passed: bool) -> None:
    made, images = report(passed=passed)
    write_page(made, images, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text("utf-8")
    assert "canaries &lt;one run&gt;" in page  # escaped
    assert "sees &lt;everything&gt;" in page
    assert page.count("data:image/svg+xml;base64,") == 4
    assert "http" not in page.replace("http-equiv", "")
    assert ("refuted" in page.split("In plain words")[1].split("What one run")[0]) != passed
    assert ("Release nothing" in page) != passed
    console = Console(record=True, width=150)
    print_summary(made, tmp_path / "audit.html", console)
    text = console.export_text()
    assert ("REFUTED" in text) != passed
    assert AuditReport.model_validate_json(made.model_dump_json()) == made


@pytest.mark.slow
def test_a_whole_audit_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "audit"
    result = CliRunner().invoke(
        app, ["audit", "--out", str(out), "--patients", "24", "--canaries", "100", "--json"]
    )
    assert result.exit_code == 0, result.output
    written = json.loads((out / "audit.json").read_text("utf-8"))
    assert json.loads(result.stdout) == written
    assert written["passed"] is True
    assert {path.name for path in out.iterdir()} == {"audit.json", "audit.html", "cohort"}
    by_key = {attack["key"]: attack for attack in written["inversion"]}
    assert by_key["trained"]["ssim"] > by_key["trained-private"]["ssim"] + 0.3
