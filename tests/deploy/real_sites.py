"""Two small hospitals with real archives, keys and policies, and the coordinator they answer to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from client.agent.state import StateFolder
from client.config import SiteConfig
from server.checkpoints.run_directory import RunDirectory
from server.flower.deployment import Deployment
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays
from shared_model.protocol.keys import create_signing_key, load_or_create_signing_key, public_path
from shared_model.registry import default_groups
from simulations.deployed.federation import LOOPBACK_DRIVER

SITES = ("east", "west")
LABELS = ("CN", "MCI", "AD")
_VOXEL_MM = 4.0
_SHAPE = (44, 52, 44)


def small_plan(rounds: int) -> FederationPlan:
    """SMR-Net on the 4 mm grid without privacy, so that a run can be repeated to the bit."""
    return FederationPlan.parse(
        {
            "name": "deployed agents",
            "seed": 7,
            "input": {"grid": {"spacing_mm": 4.0}},
            "model": {"name": "smrnet", "config": {"width": 4}},
            "groups": default_groups("smrnet").model_dump(),
            "privacy": {"mode": "none"},
            "training": {"rounds": rounds, "local_steps": 2, "sampling_rate": 0.8},
            "adaptation": {"personalise_steps": 2},
            "federation": {
                "sites": [{"name": n, "declared_patients": 6} for n in SITES],
                "min_sites": len(SITES),
                "round_deadline_s": 120,
            },
            "evaluation": {"bootstrap_draws": 100, "release_every": 1},
            "calibration": {"rule": "prior_free"},
        }
    )


@dataclass(frozen=True)
class SmallHospitals:
    """Everything below ``folder``: archives, one ``site.toml`` per site, the coordinator's keys."""

    folder: Path
    plan: FederationPlan

    @classmethod
    def build(cls, folder: Path, plan: FederationPlan) -> SmallHospitals:
        create_signing_key(folder / "coordinator.pem")
        (folder / "site-keys").mkdir()
        hospitals = cls(folder, plan)
        for number, name in enumerate(SITES):
            write_archive(folder / "archives" / name, np.random.default_rng(number))
            config = hospitals.config(name)
            config.parent.mkdir()
            config.write_text(_site_toml(name, folder))
            (config.parent / "policy.toml").write_text(_POLICY)
            key = StateFolder(SiteConfig.load(config).state_dir).key
            load_or_create_signing_key(key)
            shutil.copy(public_path(key), folder / "site-keys" / f"{name}.pub")
        return hospitals

    def config(self, name: str) -> Path:
        return self.folder / name / "site.toml"

    def new_run(self, name: str, initial: Arrays) -> RunDirectory:
        # One identifier for all: what a round draws may depend on it.
        run_dir = RunDirectory.create(self.folder / name, self.plan, initial, "study")
        Deployment(
            coordinator_key=self.folder / "coordinator.pem",
            site_keys=self.folder / "site-keys",
            driver=LOOPBACK_DRIVER,
        ).save(run_dir.path)
        return run_dir


_POLICY = """
modes = ["none"]
max_epsilon = 10.0
max_delta = 1e-5
max_reply_bytes = 8_000_000
max_shared_parameters = 2_000_000
allow_metrics = false
allow_evaluation = true
allow_calibration = true
min_cell = 1
"""


def _site_toml(name: str, folder: Path) -> str:
    return f"""
name = "{name}"
archive = "{folder / "archives" / name}"
state_dir = "state"
device = "cpu"
threads = 1
coordinator_key = "../coordinator.pem.pub"
socket = "run/agent.sock"
policy = "policy.toml"

[labels]
CN = ["CN"]
MCI = ["MCI"]
AD = ["AD"]
"""


def write_archive(root: Path, rng: np.random.Generator) -> None:
    """Nine patients: ellipsoids of noise as large as a head, and participants.tsv."""
    axes = np.meshgrid(*(np.linspace(-1.1, 1.1, n) for n in _SHAPE), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    affine = np.diag([_VOXEL_MM] * 3 + [1.0])
    affine[:3, 3] = [-_VOXEL_MM * n / 2 for n in _SHAPE]
    rows = ["participant_id\tdiagnosis\tage\tsex"]
    for number in range(9):
        label = LABELS[number % 3]
        image = inside * (rng.normal(100 + 10 * (number % 3), 20, _SHAPE))
        path = root / f"sub-{number:02d}" / "anat" / f"sub-{number:02d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), affine), path)
        rows.append(f"sub-{number:02d}\t{label}\t{60 + number}\t{'FM'[number % 2]}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "small", "BIDSVersion": "1.9.0"}')
