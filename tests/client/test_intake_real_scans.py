"""Real DICOM files of two scanners: a head that tells little about itself, and a phantom."""

from __future__ import annotations

import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from client.intake.intake import take_in
from client.intake.options import IntakeOptions

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "dicom"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real scans at {DATA}")


def test_both_are_taken_and_the_poor_one_with_a_warning(tmp_path: Path) -> None:
    for archive in DATA.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(tmp_path / "export" / archive.name[:5], filter="data")
    target = tmp_path / "state" / "bids"
    report = take_in(tmp_path / "export", target, IntakeOptions(), bytes(32))
    assert report.exclusions == ()
    assert report.dicom_files == 514
    by_number = {s.series[0].number: s for s in report.sessions}
    head, phantom = by_number[401], by_number[5]
    assert any("derived" in warning for warning in head.warnings)
    assert any("neither echo nor repetition time" in warning for warning in head.warnings)
    assert head.series[0].rank == "derived"
    assert head.age == "42"
    assert phantom.series[0].rank == "native"
    assert phantom.warnings == ()
    assert head.image is not None
    image = nibabel.load(target / head.image)
    assert sorted(image.shape) == [274, 384, 384]
    assert image.header.get_zooms() == pytest.approx((0.7, 0.667, 0.667), abs=0.01)
    assert np.isfinite(image.affine).all()
