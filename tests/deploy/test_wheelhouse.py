"""A hospital without internet installs what was collected, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZipFile

import pytest
from wheelhouses import BUILD, wheelhouse

pytestmark = [pytest.mark.deploy]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheelhouse("coordinator", tmp_path_factory.mktemp("wheelhouse"))


def install(house: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """As the README says; without any network where the kernel lets us take it away."""
    command = ["sh", str(house / "install.sh"), str(target)]
    if os.geteuid() == 0 and shutil.which("unshare"):
        command = ["unshare", "--net", *command]
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_FIND_LINKS": "/nowhere"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_coordinator_is_installed_without_a_network(house: Path, tmp_path: Path) -> None:
    done = install(house, tmp_path / "smrfed")
    assert done.returncode == 0, done.stderr
    command = [str(tmp_path / "smrfed" / "bin" / "smrfed-coordinator"), "--help"]
    # From an empty folder and without this repository on the path.
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert b"The coordinator of a smrfed federation" in said.stdout
    frozen = [str(tmp_path / "smrfed" / "bin" / "python"), "-m", "pip", "freeze", "--all"]
    names = subprocess.run(frozen, capture_output=True, text=True, check=True).stdout
    assert "torch" not in names
    again = install(house, tmp_path / "smrfed")
    assert again.returncode == 1
    assert "exists" in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_was_changed_on_the_way_is_not_installed(house: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(house, copy)
    wheel = next((copy / "wheels").glob("smrfed-*.whl"))
    with ZipFile(wheel, "a") as archive:
        archive.writestr("server/evil.py", "print('evil')")
    assert "smrfed-" in install(copy, tmp_path / "one").stdout
    assert not (tmp_path / "one").exists()
    # With a list of sums that was made to fit, the hashes of requirements.txt still do not.
    listed = subprocess.run(
        ["sha256sum", str(wheel.relative_to(copy))],
        cwd=copy,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    sums = (copy / "SHA256SUMS").read_text().splitlines(keepends=True)
    (copy / "SHA256SUMS").write_text("".join(s for s in sums if wheel.name not in s) + listed)
    done = install(copy, tmp_path / "two")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    # A file that nobody listed could be a wheel that pip prefers.
    shutil.copy(house / "wheels" / wheel.name, wheel)
    (copy / "SHA256SUMS").write_bytes((house / "SHA256SUMS").read_bytes())
    (copy / "wheels" / "smrfed-9.9-py3-none-any.whl").write_bytes(b"")
    done = install(copy, tmp_path / "three")
    assert done.returncode == 1
    assert "does not list" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_manifest_requirements_and_bill_of_materials_say_the_same(house: Path) -> None:
    manifest = json.loads((house / "manifest.json").read_text())
    wheels = {wheel["name"]: wheel for wheel in manifest["wheels"]}
    assert manifest["torch"] is None
    lines = (house / "requirements.txt").read_text().splitlines()
    assert {
        f"{w['name']}=={w['version']} --hash=sha256:{w['sha256']}" for w in wheels.values()
    } == {line.replace("smrfed[coordinator]", "smrfed") for line in lines}
    bill = json.loads((house / "sbom.cdx.json").read_text())
    components = [*bill["components"], bill["metadata"]["component"]]
    assert {c["name"]: c["hashes"][0]["content"] for c in components} == {
        name: wheel["sha256"] for name, wheel in wheels.items()
    }
    licences = [c for c in components if c.get("licenses")]
    assert len(licences) > 0.9 * len(components)
    constraints = (BUILD.parents[2] / "constraints.txt").read_text().lower().replace("_", "-")
    pinned = {line.strip() for line in constraints.splitlines()}
    loose = {n for n, w in wheels.items() if f"{n}=={w['version']}" not in pinned} - {"smrfed"}
    assert loose == set(), "without a version in constraints.txt"


@pytest.mark.slow
def test_the_bill_of_materials_follows_the_cyclonedx_schema(house: Path) -> None:
    spec = importlib.util.find_spec("cyclonedx")
    if spec is None or spec.origin is None:
        pytest.skip("cyclonedx-python-lib is not installed: it carries the published schema")
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource

    folder = Path(spec.origin).parent / "schema" / "_res"
    load = {p.name: json.loads(p.read_text("utf-8")) for p in folder.glob("*.schema.json")}
    wanted = ("bom-1.6", "spdx", "jsf-0.82", "cryptography-defs")
    named = {n: c for n, c in load.items() if n.startswith(wanted)}
    resources = [Resource.from_contents(content) for content in named.values()]
    registry = resources @ Registry()
    schema = next(content for name, content in named.items() if name.startswith("bom-1.6"))
    validator = Draft7Validator(schema, registry=registry)
    bill = json.loads((house / "sbom.cdx.json").read_text())
    assert [error.message for error in validator.iter_errors(bill)] == []
    bill["components"][0]["typo"] = 1
    assert list(validator.iter_errors(bill))


def test_a_version_that_was_not_tested_is_refused(tmp_path: Path) -> None:
    """The constraints hold also where pip was talked into something else."""
    spec = importlib.util.spec_from_file_location("wheelhouse_build", BUILD)
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = build
    spec.loader.exec_module(build)

    def wheel(name: str, version: str) -> object:
        file = tmp_path / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        with ZipFile(file, "w") as archive:
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n"
            archive.writestr(f"{name.replace('-', '_')}-{version}.dist-info/METADATA", text)
        return build.Wheel.read(file)

    constraint = tmp_path / "constraints.txt"
    constraint.write_text("# exact\nTorch==2.13.0\ntyping_extensions==4.16.0\n")
    check = build._must_keep_constraints
    check([wheel("torch", "2.13.0+cu126"), wheel("typing-extensions", "4.16.0")], constraint)
    with pytest.raises(SystemExit, match=r"wants torch==2\.13\.0"):
        check([wheel("torch", "2.12.0+cu126")], constraint)


def test_a_wheelhouse_is_never_written_over(tmp_path: Path) -> None:
    command = [sys.executable, str(BUILD), "coordinator", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exists" in done.stderr


def test_no_file_of_a_package_is_left_out_of_the_wheel() -> None:
    """What is not named in pyproject.toml is there in a checkout and missing at a hospital."""
    root = BUILD.parents[2]
    setup = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    patterns = setup["package-data"]["*"]
    packages = [pattern.rstrip("*") for pattern in setup["packages"]["find"]["include"]]
    files = [file for package in packages for file in (root / package).rglob("*")]
    data = [f for f in files if f.is_file() and f.suffix not in (".py", ".pyc")]
    assert data
    left = [f for f in data if not any(fnmatch(f.name, pattern) for pattern in patterns)]
    assert left == []
