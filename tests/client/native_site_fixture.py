"""A hospital with scans as acquired: synthetic heads in BIDS, a plan for them, the real command.

The heads are the MNI152 brain with folds of its own per person, stripped, on 2 mm voxels, moved and
scaled: cheap to prepare, because the networks of brain extraction cost the least there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from agent_site import Hospital, build_hospital
from preprocessing_head import affine_of
from quality_heads import GRID, person
from small_site import small_plan

from client.agent.acceptance import AcceptedPlans
from shared_model.plan import FederationPlan

Greys = npt.NDArray[np.int16]
#: Fewer iterations than by default: the field of a template is flat.
QUICK = {
    "source": "native",
    "bias_field": {"iterations": [5]},
    "registration": {"levels_mm": [8.0, 4.0]},
}


def native_plan(
    preparation: Mapping[str, Any] = QUICK, **more: Mapping[str, Any] | Any
) -> FederationPlan:
    """:func:`small_plan` in mode none for native scans, on the 4 mm grid."""
    plan = small_plan(mode="none").model_dump(mode="json")
    plan["input"] |= {"preparation": preparation} | more.pop("input", {})
    return FederationPlan.parse(plan | more)


@cache
def head(seed: int) -> Greys:
    """``(88, 104, 88)`` the brain of a person, LAS voxels of 2 mm; everything else is 0."""
    brain, _ = person(seed)
    noisy = np.abs(brain + np.random.default_rng(seed).normal(0, 0.03, brain.shape))
    scan = np.where(brain > 0.05, np.maximum(noisy, 0.01), 0)
    # Not to the edge of the image: the brain stem ends where a scan would end it too.
    scan[:, :, :5] = 0
    scan[:3], scan[-3:] = 0, 0
    greys: Greys = np.rint(scan[::-1] * 900).astype(np.int16)
    greys.setflags(write=False)
    return greys


def write_scan(path: Path, voxels: npt.NDArray[Any], turned: float = 0.0) -> Path:
    """Write voxels of 2 mm in LAS order; the head is turned and shifted against MNI space."""
    affine = GRID.affine.copy()
    affine[0] *= -1
    affine[0, 3] = GRID.affine[0, 3] + GRID.spacing_mm * (GRID.shape[0] - 1)
    affine = affine_of((turned, -turned, 0.5 * turned), (1, 1, 1), (turned, 8, -12)) @ affine
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def t1w(root: Path, subject: str, session: str = "") -> Path:
    """Where a T1w image lies."""
    name = "_".join(part for part in (subject, session) if part)
    return root / subject / session / "anat" / f"{name}_T1w.nii.gz"


def write_tables(root: Path, people: Mapping[str, str]) -> None:
    """dataset_description.json and participants.tsv of ``subject: diagnosis``."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text(
        '{"Name": "native", "BIDSVersion": "1.10.0", "DatasetType": "raw"}\n'
    )
    rows = [f"{name}\t{60 + i}\t{'FM'[i % 2]}\t{d}" for i, (name, d) in enumerate(people.items())]
    (root / "participants.tsv").write_text(
        "\n".join(["participant_id\tage\tsex\tdiagnosis", *rows]) + "\n"
    )


@dataclass(frozen=True)
class NativeHospital:
    """A hospital whose archive is native, and its command line."""

    hospital: Hospital

    @property
    def archive(self) -> Path:
        return self.hospital.config.archive

    @property
    def state(self) -> Path:
        return self.hospital.config.state_dir

    @property
    def derivatives(self) -> Path:
        return self.state / "derivatives"

    @property
    def config(self) -> Path:
        return self.hospital.folder / "site.toml"

    def accept(self, plan: FederationPlan) -> None:
        AcceptedPlans(self.hospital.state.plans).accept(plan, None)

    def start(
        self, *arguments: str, before: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """``smrfed-site`` as a process of its own."""
        command = [*before, sys.executable, "-m", "client.cli", *arguments, "-c", str(self.config)]
        return subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=500)
        return process.returncode, out, err

    def prepare(self, *arguments: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Exit code and facts of ``prepare --json``."""
        code, out, err = self.run("prepare", "--json", *arguments, **options)
        assert out, err
        facts: dict[str, Any] = json.loads(out)
        return code, facts

    def table(self, name: str) -> list[dict[str, str]]:
        """Rows of a table of the derivatives."""
        head, *rows = (self.derivatives / name).read_text().splitlines()
        return [dict(zip(head.split("\t"), row.split("\t"), strict=True)) for row in rows]


def native_hospital(
    folder: Path, archive: Path, plan: FederationPlan | None = None
) -> NativeHospital:
    """A site ``a`` for an archive that has accepted the plan."""
    chosen = native_plan() if plan is None else plan
    site = NativeHospital(build_hospital(folder, archive, chosen))
    site.accept(chosen)
    return site


def prepared_bytes(state: Path) -> dict[Path, bytes]:
    """Everything that is kept of scans and written for people; not the index of files."""
    out = {}
    for top in ("prepared", "derivatives"):
        for path in sorted((state / top).rglob("*")):
            if path.is_file() and path.name != "files.json":
                out[path.relative_to(state)] = path.read_bytes()
    return out
