"""The images are really built, from Debian packages and a wheelhouse alone, and really started.

``SMRFED_IMAGE_STORAGE=FOLDER`` keeps the images between runs; what is there is not built again.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci import Image, Storage, missing, runtime
from wheelhouses import wheelhouse

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.slow,
    pytest.mark.timeout(5400),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
BASE = "localhost/smrfed-base:bookworm"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    kept = os.environ.get("SMRFED_IMAGE_STORAGE")
    found = Storage(Path(kept) if kept else tmp_path_factory.mktemp("storage"))
    if not found.has(BASE):
        found.script("make-base.sh", BASE)
    return found


def built(storage: Storage, party: str, folder: Path) -> Image:
    tag = f"localhost/smrfed-{party}:test"
    if not storage.has(tag):
        storage.script("build.sh", str(wheelhouse(party, folder)), tag, BASE=BASE)
    return storage.image(tag)


@pytest.fixture(scope="module")
def coordinator(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    image = built(storage, "coordinator", tmp_path_factory.mktemp("wheelhouse"))
    print("\nsize of the coordinator's image:", image.size)
    yield image
    image.remove()


@pytest.fixture(scope="module")
def site(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    image = built(storage, "site", tmp_path_factory.mktemp("wheelhouse"))
    print("\nsize of the site's image:", image.size)
    yield image
    image.remove()


def privileged_files(root: Path) -> list[str]:
    """Set-user and set-group programs of an image, and what everybody may write."""
    found = []
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            facts = (Path(folder) / name).lstat()
            if stat.S_ISREG(facts.st_mode) and facts.st_mode & (stat.S_ISUID | stat.S_ISGID):
                found.append(f"{folder}/{name}")
            sticky = facts.st_mode & stat.S_ISVTX or stat.S_ISLNK(facts.st_mode)
            if facts.st_mode & stat.S_IWOTH and not sticky and not stat.S_ISCHR(facts.st_mode):
                found.append(f"{folder}/{name}")
    return found


def check_what_an_image_says(image: Image, party: str) -> None:
    config = image.config
    assert int(config["User"].split(":")[0]) >= 10000
    assert config["Entrypoint"] == [f"smrfed-{party}"]
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python3"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Labels"]["org.opencontainers.image.version"] != "unknown"
    assert not [e for e in config["Env"] if "KEY" in e or "TOKEN" in e or "SECRET" in e]
    # Nothing is installed at run time, and nobody becomes root.
    programs = {path.name for path in (image.root / "opt/smrfed/bin").iterdir()}
    assert not {"pip", "pip3", "uv", "uvx"} & programs
    assert privileged_files(image.root) == []


def test_the_coordinators_image_is_what_it_says(coordinator: Image) -> None:
    check_what_an_image_says(coordinator, "coordinator")
    packages = next((coordinator.root / "opt/smrfed/lib").glob("python3.*")) / "site-packages"
    assert not (packages / "torch").exists()


def test_the_sites_image_is_what_it_says(site: Image) -> None:
    check_what_an_image_says(site, "site")


def test_the_coordinator_starts_on_a_read_only_root(coordinator: Image, tmp_path: Path) -> None:
    done = coordinator.run(tmp_path / "bundle", "--help")
    assert done.returncode == 0, done.stderr
    assert "The coordinator of a smrfed federation" in done.stdout


def test_the_sites_check_runs_without_data(site: Image, tmp_path: Path) -> None:
    """A folder as ``init`` leaves it: every problem is told, by number, and nothing breaks."""
    home = owned(tmp_path / "home", 10001)
    mounts = [(home, "/srv/smrfed", "rw")]
    made = site.run(tmp_path / "init", "init", ".", "--name", "clinic-a", mounts=mounts)
    assert made.returncode == 0, made.stderr
    done = site.run(tmp_path / "check", "check", "site.toml", "--json", mounts=mounts)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "SMR-E" in done.stdout
    assert json.loads(done.stdout)
    assert "Traceback" not in done.stderr


def test_torch_and_the_preparation_work_in_the_sites_image(site: Image, tmp_path: Path) -> None:
    code = (
        "import torch, monai, torch_geometric, SimpleITK, deepbet, nibabel, client.agent.agent;"
        "print((torch.ones(3) @ torch.ones(3)).item())"
    )
    python = ["python3", "-c", code]
    done = site.run(tmp_path / "bundle", entrypoint=python)
    assert (done.returncode, done.stdout.strip()) == (0, "3.0"), done.stderr


def test_a_containers_root_cannot_be_written(site: Image, tmp_path: Path) -> None:
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('x')"
    for index, place in enumerate(("/opt/smrfed/x", "/etc/x", "/srv/smrfed/x", "/tmp/x")):
        python = ["python3", "-c", code, place]
        done = site.run(tmp_path / str(index), entrypoint=python)
        assert (done.returncode == 0) == (place == "/tmp/x"), done.stderr


def test_the_coordinator_comes_up_and_is_healthy(coordinator: Image, tmp_path: Path) -> None:
    """``init`` and ``up`` in a container, the health check of the image beside it."""
    mounts = [(owned(tmp_path / "home", 10001), "/srv/smrfed", "rw")]
    address = ("--address", "coordinator.example:443")
    made = coordinator.run(tmp_path / "init", "init", *address, "--json", mounts=mounts)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["address"] == "coordinator.example:443"
    bundle = coordinator.bundle(tmp_path / "up", mounts=mounts)
    name = f"smrfed-{uuid.uuid4().hex[:12]}"
    log = (tmp_path / "log").open("w")
    running = subprocess.Popen(
        runtime("run", "--bundle", str(bundle), name), stdout=log, stderr=subprocess.STDOUT
    )
    try:
        probe = coordinator.config["Healthcheck"]["Test"][1:]
        deadline = time.monotonic() + 240
        health = None
        while time.monotonic() < deadline and running.poll() is None:
            command = runtime("exec", "--user", "10001:10001", name, *probe)
            health = subprocess.run(command, capture_output=True, text=True, check=False)
            if health.returncode == 0:
                break
            time.sleep(2)
        said = (tmp_path / "log").read_text()
        assert health is not None, said
        assert health.returncode == 0, (health.stderr, said)
    finally:
        subprocess.run(runtime("kill", name, "TERM"), check=False, capture_output=True)
        try:
            running.wait(90)
        finally:
            subprocess.run(runtime("delete", "--force", name), check=False, capture_output=True)
            log.close()
    assert running.returncode == 0, (tmp_path / "log").read_text()
    # Before it is up, and after, the same command says no.
    after = coordinator.run(tmp_path / "after", entrypoint=probe, mounts=mounts)
    assert after.returncode == 1
    assert "does not answer" in after.stderr


def owned(folder: Path, user: int) -> Path:
    """A volume of a container's user."""
    folder.mkdir(mode=0o700)
    os.chown(folder, user, user)
    # pytest's folders are root's alone: a bind mount needs no way through them.
    return folder
