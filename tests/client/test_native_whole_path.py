"""From DICOM as a scanner wrote it to one federated round: real heads, the real command."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from agent_site import build_hospital, opened
from dicom_fixture import Identity, write_series
from dicom_protocols import GE_BRAVO, LOCALIZER, PHILIPS_TFE, SIEMENS_MPRAGE, T2_FLAIR
from native_site_fixture import NativeHospital, native_plan
from scipy.ndimage import affine_transform
from small_site import small_atlas

from client.archive.nifti import read_volume
from client.archive.split import position
from client.commands.preparing import native_site
from client.prepared.resample import to_ras
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real scans at {DATA}"),
]
DICOM = """
[dicom.clinical_table]
path = "registry.csv"
patient_id = "PatID"
diagnosis = "Dx"
age = "Age"
"""
GREYS = npt.NDArray[np.int16]
PROTOCOLS = (SIEMENS_MPRAGE, GE_BRAVO, PHILIPS_TFE)


def real_head(path: Path) -> GREYS:
    """A real head on the 2 mm voxels that the DICOM writer knows, centred in its field of view."""
    raw = read_volume(path)
    voxels, _ = to_ras(raw.voxels, raw.affine)
    _, affine = to_ras(raw.voxels, raw.affine)
    step = 2.0 / np.linalg.norm(affine[:3, :3], axis=0)
    shape = np.array([88, 104, 88])
    bright = np.argwhere(voxels[::4, ::4, ::4] > np.percentile(voxels, 80)) * 4
    offset = (bright.min(axis=0) + bright.max(axis=0)) / 2 - step * (shape - 1) / 2
    # The top of the head counts, not the neck.
    offset[2] = bright[:, 2].max() - step[2] * (shape[2] - 4)
    out = affine_transform(voxels, step, offset, output_shape=tuple(shape), order=1)
    return np.rint(np.clip(out, 0, None) * (1500 / out.max())).astype(np.int16)


def export(folder: Path) -> dict[str, str]:
    """A tree of DICOM files as a PACS writes it, and the diagnosis by PatientID."""
    diagnoses = {}
    for archive in sorted((DATA / "dicom").glob("*.tar.gz")):
        unpacked = folder / archive.name[:5]
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        files = (path for path in unpacked.rglob("*") if path.is_file())
        some = pydicom.dcmread(next(filter(pydicom.misc.is_dicom, files)), stop_before_pixels=True)
        diagnoses[str(some.PatientID)] = "Alzheimer"
    heads = sorted((DATA / "bids").glob("*/sub-*/**/*_T1w.nii.gz"))
    for number, path in enumerate(heads):
        person = Identity(f"KRANK{number}", name=f"PLANTED^{number}", accession=f"ACC{number}")
        place = folder / f"PLANTED {number}" / "study"
        write_series(place, PROTOCOLS[number % 3], person, volume=real_head(path))
        write_series(place, LOCALIZER, person)
        write_series(place, T2_FLAIR, person)
        diagnoses[person.patient_id] = ("healthy", "Alzheimer")[number % 2]
    write_series(folder / "no t1", LOCALIZER, Identity("KRANK99", name="PLANTED^LOCALIZER"))
    diagnoses["KRANK99"] = "healthy"
    return diagnoses


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> NativeHospital:
    """A hospital with an export and a registry; nothing prepared, no plan accepted."""
    folder = tmp_path_factory.mktemp("whole-path")
    diagnoses = export(folder / "export")
    hospital = build_hospital(folder / "site", folder / "export", native_plan({"source": "native"}))
    rows = [f"{name};{label};{60 + i}" for i, (name, label) in enumerate(diagnoses.items())]
    (hospital.folder / "registry.csv").write_text("\n".join(["PatID;Dx;Age", *rows]) + "\n")
    toml = hospital.folder / "site.toml"
    words = toml.read_text().replace('CN = ["CN"]', 'CN = ["healthy"]')
    toml.write_text(words.replace('AD = ["AD"]', 'AD = ["Alzheimer"]') + DICOM)
    return NativeHospital(hospital)


def test_from_dicom_to_a_sealed_reply(site: NativeHospital) -> None:
    # Before any plan a hospital looks at its data.
    code, facts = site.prepare()
    assert code == 3
    # Somebody of whom there is only a localizer is listed with the rest.
    assert facts["intake"]["excluded"] == {"SMR-E250": 1}
    assert facts["intake"]["images"] == facts["scans"] + facts["excluded"]["SMR-E244"]
    refused = site.table("excluded.tsv")
    # The phantom has something that looks like a brain, and lies nowhere in MNI space.
    codes = [row["code"] for row in refused if row["code"] != "SMR-E275"]
    assert codes == ["SMR-E250", "SMR-E244"]
    quality = site.table("quality.tsv")
    assert len(quality) >= 6
    assert all(row["verdict"] in ("pass", "review") for row in quality), quality
    assert all(float(row["dice"]) > 0.92 for row in quality)
    assert all(float(row["rotation_degrees"]) < 40 for row in quality)
    # A person looks at the page and accepts.
    for row in quality:
        if row["verdict"] == "review":
            assert site.run("review", row["scan"], "accept", "--why", "looked at it")[0] == 0
    people = [row["participant_id"] for row in quality]
    test_fraction = 0.34

    def count_tested(seed: int) -> int:
        return sum(position(name, seed) < test_fraction for name in people)

    seed = next(seed for seed in range(100) if count_tested(seed) == 2)
    plan = native_plan(
        {"source": "native"}, seed=seed,
        evaluation={"test_fraction": test_fraction}, name="whole path",
    )  # fmt: skip
    site.accept(plan)
    hospital = type(site.hospital)(site.hospital.folder, plan, site.hospital.coordinator)
    agent = hospital.agent()
    try:
        arrays = SiteModel.build(plan, small_atlas()).shared_arrays()
        # The plan's grid is another one than that of the first look.
        with pytest.raises(SmrfedError, match="SMR-E286"):
            native_site(hospital.config, plan).assessment()
        steps = {
            p: p.stat().st_mtime_ns for p in (site.state / "prepared" / "steps").rglob("*.work")
        }
        code, facts = site.prepare()
        assert (code, facts["used"]) == (3, len(people))
        # Nothing of brain, bias field and registration was done again.
        assert steps == {p: p.stat().st_mtime_ns for p in steps}
        header, delta = opened(agent, agent.handle(hospital.instruction(arrays)))
        assert (header.kind, header.round, header.plan_digest) == ("train", 1, plan.digest)
        assert any(np.abs(v).max() > 0 for v in delta.values())
    finally:
        agent.close()
    assert site.prepare()[0] == 3


def test_nothing_derived_names_a_patient(site: NativeHospital) -> None:
    if not site.derivatives.exists():
        pytest.skip("the first test prepares")
    planted = (b"PLANTED", b"KRANK", b"ACC0", str(site.archive).encode())
    for path in site.state.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".gz":
            content += gzip.decompress(content)
        for word in planted:
            assert word not in content, path


def test_the_page_shows_every_head(site: NativeHospital) -> None:
    if not site.derivatives.exists():
        pytest.skip("the first test prepares")
    page = (site.derivatives / "quality.html").read_text()
    assert not list(site.derivatives.rglob("*res-2mm*"))
    quality = site.table("quality.tsv")
    assert page.count("data:image/png;base64,") == len(quality)
    assert all(row["scan"] in page for row in quality)
    for row in quality:
        (sidecar,) = site.derivatives.glob(f"{row['participant_id']}/**/*_res-4mm_*T1w.json")
        assert json.loads(sidecar.read_text())["SkullStripped"] is True
        volume = nibabel.load(str(sidecar).replace(".json", ".nii.gz"))
        assert volume.shape == (44, 52, 44)
