"""What the names of sequences say, as scanners of several vendors write them."""

from __future__ import annotations

import pytest

from client.archive.sequence_names import (
    other_contrast,
    says_contrast_agent,
    says_t1,
    says_volumetric_t1,
)


@pytest.mark.parametrize(
    "name",
    [
        "t1_mprage_sag_p2_iso_1.0", "MPRAGE", "MP-RAGE SENS", "Accelerated Sagittal MPRAGE",
        "3D Ax T1 MP-RAGE_R22", "SAG IR-FSPGR", "Sag IR-SPGR", "Ax FSPGR BRAVO", "sT1W_3D_TFE",
        "T1W_3D_TFE_SENSE", "WIP T1_3D_TFE", "gre_fsp_3d_sag", "t1_gre_fsp_3d_sag_iso",
        "ADNI_R11-ADNI-MPRAGE", "tfl3d1_16ns", "anat-T1w", "AXT1 BRAVO", "T1_MPR", "MEMPRAGE_4e",
        "t1_mpr_ns_sag_moco", "Sag 3D T1 FSPGR ASSET", "mp2rage_UNI-DEN", "T1 Pre-contrast MPRAGE",
    ],
)  # fmt: skip
def test_volumetric_t1(name: str) -> None:
    assert says_t1(name)
    assert other_contrast(name) is None
    assert not says_contrast_agent(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("localizer", "a localizer"), ("3Plane Loc SSFSE", "a localizer"),
        ("3-pl T2* FGRE S", "a localizer"), ("AAHead_Scout_MPR_sag", "a localizer"),
        ("Survey_SHC", "a localizer"), ("SmartBrain_T1", "a localizer"),
        ("ASSET CAL", "calibration"), ("Calibration Scan", "calibration"),
        ("gre_field_mapping", "calibration"), ("Ax DWI b1000", "diffusion"),
        ("ADC (10^-6)", "diffusion"),
        ("ep2d_diff_mddw_20_TRACEW", "diffusion"), ("Axial DTI", "diffusion"),
        ("SWI_Images", "susceptibility"), ("mIP_Images(SW)", "projection"),
        ("Ax T2-Star", "susceptibility"), ("Axial T2*", "susceptibility"),
        ("ep2d_bold_rest", "functional"), ("rsfMRI", "functional"), ("TOF_3D_multi-slab", "angio"),
        ("MRA Willis", "angio"), ("pCASL", "perfusion"), ("ASL_PERFUSION", "perfusion"),
        ("t2_tse_tra", "T2"), ("AXT2FLAIR", "FLAIR"), ("Sag 3D T2 FLAIR CUBE", "FLAIR"),
        ("t2_space_dark-fluid_sag", "FLAIR"), ("eT2W_TSE", "T2"), ("HighResHippocampus T2", "T2"),
        ("PD/T2 FSE", "T2"), ("AX PD", "proton"), ("t1_mprage_INV1", "MP2RAGE"),
        ("T1_Images map", "quantitative"), ("t1 map", "quantitative"), ("C-Spine T1", "body part"),
        ("PhoenixZIPReport", "report"), ("Screen Save T1", "screen"), ("svs_se_30", "spectro"),
    ],
)  # fmt: skip
def test_everything_else(name: str, kind: str) -> None:
    found = other_contrast(name)
    assert found is not None, name
    assert kind in found


@pytest.mark.parametrize(
    "name",
    ["T1 MPRAGE +C", "t1_mprage_post_gd", "Sag T1 POST", "t1_mprage KM", "T1W_TFE_GADO", "T1 + Gd"],
)  # fmt: skip
def test_contrast_agents(name: str) -> None:
    assert says_contrast_agent(name)
    assert other_contrast(name) is None


@pytest.mark.parametrize("name", ["T1 FLAIR", "Ax T1 SE", "t1_tse_sag", "T1 SPACE", "t1_fl2d_tra"])
def test_t1_of_slices(name: str) -> None:
    assert says_t1(name)
    assert not says_volumetric_t1(name)
    assert other_contrast(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "head", "Hippocampus study", "part1", "posterior", "expressed", "Swiss", "performance"],
)
def test_names_that_say_nothing(name: str) -> None:
    assert other_contrast(name) is None
    assert not says_t1(name)
    assert not says_contrast_agent(name)
