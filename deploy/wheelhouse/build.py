#!/usr/bin/env python3
"""Collect every wheel that a site or a coordinator needs, for a machine without internet.

    python3 deploy/wheelhouse/build.py coordinator OUT
    python3 deploy/wheelhouse/build.py site OUT --torch 2.13.0            # CUDA, from the index
    python3 deploy/wheelhouse/build.py site OUT --torch 2.13.0+cpu --find-links FOLDER

Run it with the Python version, and on the operating system, of the machine that will install: pip
takes the wheels of the interpreter that it runs under. Standard library and pip only. ``OUT`` then
holds ``wheels/``, ``requirements.txt`` (exact versions with SHA-256), ``manifest.json``,
``sbom.cdx.json`` (CycloneDX 1.6), ``install.sh`` and ``SHA256SUMS`` over all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PARTIES = ("site", "coordinator")
# What may differ from constraints.txt: a CUDA build of the same torch carries a local version.
_LOCAL_VERSION = re.compile(r"\+[a-z0-9.]+$")


@dataclass(frozen=True)
class Wheel:
    """One wheel file and what its metadata say."""

    file: Path
    sha256: str
    name: str
    version: str
    metadata: Message

    @classmethod
    def read(cls, file: Path) -> Wheel:
        """Read the metadata in ``file``; raises ``SystemExit`` when there is not exactly one."""
        with ZipFile(file) as archive:
            names = [n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)]
            if len(names) != 1:
                raise SystemExit(f"{file.name}: expected one METADATA, found {len(names)}")
            metadata = Parser().parsestr(archive.read(names[0]).decode("utf-8"))
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        name = re.sub(r"[-_.]+", "-", str(metadata["Name"])).lower()
        return cls(file, digest.hexdigest(), name, str(metadata["Version"]), metadata)

    @property
    def licence(self) -> str:
        """SPDX expression, classifier, or first line of the licence field; may be empty."""
        if expression := self.metadata["License-Expression"]:
            return str(expression)
        for classifier in self.metadata.get_all("Classifier", []):
            if classifier.startswith("License :: "):
                return str(classifier).rpartition(" :: ")[2]
        return next(iter(str(self.metadata["License"] or "").strip().splitlines()), "")[:200]


def main() -> None:
    """Build the wheelhouse; every problem ends with exit status 1 and nothing half written."""
    arguments = _arguments()
    out: Path = arguments.out.absolute()
    if out.exists():
        raise SystemExit(f"{out} exists; a wheelhouse is written once, into a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".wheelhouse-") as folder:
        building = Path(folder) / "house"
        wheels = _collect(arguments, building / "wheels", Path(folder) / "own")
        _write(building, arguments.party, wheels)
        building.rename(out)
    megabytes = sum(wheel.file.stat().st_size for wheel in _read_all(out / "wheels")) / 1e6
    digest = hashlib.sha256((out / "SHA256SUMS").read_bytes()).hexdigest()
    print(f"{out}: {len(wheels)} wheels, {megabytes:.0f} MB")
    print(f"SHA-256 of SHA256SUMS, to be compared at the other end: {digest}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="offline wheelhouse for smrfed")
    parser.add_argument("party", choices=PARTIES)
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--source", type=Path, default=ROOT, help="the smrfed repository")
    parser.add_argument("--constraint", type=Path, help="default: SOURCE/constraints.txt")
    parser.add_argument(
        "--torch",
        metavar="VERSION",
        help="for a site: exactly this build, such as 2.13.0+cpu, 2.13.0 or 2.13.0+cu126",
    )
    parser.add_argument(
        "--find-links", action="append", default=[], help="folder with more wheels, as for pip"
    )
    parser.add_argument("--index-url", help="package index, as for pip")
    parser.add_argument(
        "--extra-index-url", action="append", default=[], help="as for pip; torch's own index"
    )
    return parser.parse_args()


def _collect(arguments: argparse.Namespace, wheels: Path, own: Path) -> list[Wheel]:
    """Our wheel and, by pip, all that it needs; what has no wheel is built here, once."""
    constraint = arguments.constraint or arguments.source / "constraints.txt"
    sources: list[str] = []
    for link in arguments.find_links:
        sources += ["--find-links", link]
    if arguments.index_url:
        sources += ["--index-url", arguments.index_url]
    for url in arguments.extra_index_url:
        sources += ["--extra-index-url", url]
    with tempfile.TemporaryDirectory() as copy:
        # setuptools leaves a build folder in its source: the repository stays as it is.
        ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "tests")
        source = shutil.copytree(arguments.source, Path(copy) / "smrfed", ignore=ignored)
        _pip("wheel", "--no-deps", "--wheel-dir", str(own), *sources, str(source))
    (ours,) = own.glob("smrfed-*.whl")
    _pip(
        *("wheel", "--wheel-dir", str(wheels), "--constraint", str(constraint), *sources),
        f"smrfed[{arguments.party}] @ {ours.as_uri()}",
        # Three equal signs: the string itself, so that 2.13.0 is not 2.13.0+cpu.
        *([f"torch==={arguments.torch}"] if arguments.torch else []),
    )
    found = _read_all(wheels)
    _must_keep_constraints(found, constraint)
    return found


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("pip failed; nothing was written")


def _read_all(folder: Path) -> list[Wheel]:
    return sorted((Wheel.read(file) for file in folder.glob("*.whl")), key=lambda w: w.name)


def _must_keep_constraints(wheels: list[Wheel], constraint: Path) -> None:
    """Every wheel but ours has the version with which the tests ran."""
    pinned: dict[str, str] = {}
    for line in constraint.read_text(encoding="utf-8").splitlines():
        name, equals, version = line.partition("#")[0].strip().partition("==")
        if equals:
            pinned[re.sub(r"[-_.]+", "-", name).lower()] = version
    for wheel in wheels:
        wanted = pinned.get(wheel.name)
        if wanted is not None and _LOCAL_VERSION.sub("", wheel.version) != wanted:
            raise SystemExit(f"{wheel.file.name}: {constraint.name} wants {wheel.name}=={wanted}")
    loose = [w.name for w in wheels if w.name not in pinned and w.name != "smrfed"]
    if loose:
        print("not in constraints.txt, fixed by this wheelhouse only:", ", ".join(loose))


def _write(house: Path, party: str, wheels: list[Wheel]) -> None:
    lines = [
        f"{wheel.name}{f'[{party}]' if wheel.name == 'smrfed' else ''}=={wheel.version}"
        f" --hash=sha256:{wheel.sha256}\n"
        for wheel in wheels
    ]
    (house / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    smrfed = next(wheel for wheel in wheels if wheel.name == "smrfed")
    manifest = {
        "party": party,
        "smrfed": smrfed.version,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "torch": next((wheel.version for wheel in wheels if wheel.name == "torch"), None),
        "libc": " ".join(platform.libc_ver()),
        "wheels": [
            {
                "name": wheel.name,
                "version": wheel.version,
                "file": wheel.file.name,
                "bytes": wheel.file.stat().st_size,
                "sha256": wheel.sha256,
                "licence": wheel.licence,
            }
            for wheel in wheels
        ],
    }
    _write_json(house / "manifest.json", manifest)
    _write_json(house / "sbom.cdx.json", _bill_of_materials(smrfed, wheels))
    shutil.copy(HERE / "install.sh", house / "install.sh")
    sums = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(house).as_posix()}\n"
        for file in sorted(house.rglob("*"))
        if file.is_file()
    ]
    (house / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _bill_of_materials(smrfed: Wheel, wheels: list[Wheel]) -> dict[str, Any]:
    """CycloneDX 1.6: what is in the wheelhouse, with hashes and licences; the same every time."""
    own = _component(smrfed) | {"type": "application"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": [_component(wheel) for wheel in wheels if wheel is not smrfed],
    }


def _component(wheel: Wheel) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{wheel.name}@{wheel.version}",
        "name": wheel.name,
        "version": wheel.version,
        "purl": f"pkg:pypi/{wheel.name}@{wheel.version.replace('+', '%2B')}",
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
    }
    if wheel.licence:
        component["licenses"] = [{"license": {"name": wheel.licence}}]
    return component


if __name__ == "__main__":
    main()
