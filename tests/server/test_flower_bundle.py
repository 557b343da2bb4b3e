"""The app bundle carries entry points only, and the ServerApp and courier import no torch."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import load_and_validate

from server.flower.fab import write_app_bundle

ROOT = Path(__file__).parents[2]


def test_the_bundle_holds_entry_points_and_nothing_else(tmp_path: Path) -> None:
    bundle = write_app_bundle(tmp_path)
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(bundle.directory))) as archive:
        names = {name for name in archive.namelist() if not name.startswith(".info/")}
    assert names == {
        "pyproject.toml",
        "smrfed_entry/__init__.py",
        "smrfed_entry/serverapp.py",
        "smrfed_entry/clientapp.py",
    }


def test_flower_accepts_the_bundle_without_a_warning(tmp_path: Path) -> None:
    directory = write_app_bundle(tmp_path).directory
    _, warnings = load_and_validate(directory / "pyproject.toml")
    assert warnings == []


def test_the_hash_is_the_same_wherever_the_bundle_is_built(tmp_path: Path) -> None:
    first = write_app_bundle(tmp_path / "a").sha256
    assert write_app_bundle(tmp_path / "b" / "c").sha256 == first


@pytest.mark.parametrize("module", ["serverapp", "clientapp"])
def test_an_entry_point_imports_the_installed_app_and_no_torch(tmp_path: Path, module: str) -> None:
    directory = write_app_bundle(tmp_path).directory
    program = (
        f"import sys; sys.path.insert(0, {str(directory)!r})\n"
        f"import smrfed_entry.{module} as entry\n"
        "import server, client\n"
        "heavy = {'torch', 'monai', 'scipy', 'nibabel', 'grpc'} & set(sys.modules)\n"
        "print(entry.__file__, server.__file__, type(entry.app).__name__, sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    entry, installed, kind, heavy = done.stdout.strip().split(" ", 3)
    assert Path(entry).is_relative_to(directory)
    assert not Path(installed).is_relative_to(directory)
    assert kind == {"serverapp": "ServerApp", "clientapp": "ClientApp"}[module]
    # grpc is imported by Flower itself; the courier uses it, the ServerApp does not mind.
    assert heavy in ("[]", "['grpc']")
