"""Build the images of ``deploy/images`` and start them with an OCI runtime, without an engine.

buildah builds (chroot isolation, plain folders for storage), crun starts: user, environment, entry
point and working folder are those of the image; the root file system is read-only, there is no
capability and, unless a test says so, no network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deploy" / "images"
NEEDED = ("buildah", "crun", "debootstrap", "unshare")


def missing() -> str | None:
    """Why images cannot be built and started here, or None."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if os.geteuid() != 0:
        return "building and starting an image without an engine needs root"
    return None


@dataclass(frozen=True)
class Storage:
    """Images in a folder of the test's own, or in one that is kept between runs."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """For buildah and the scripts that call it."""
        file = self.folder / "storage.conf"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            run, graph = self.folder / "run", self.folder / "graph"
            file.write_text(
                f'[storage]\ndriver = "vfs"\nrunroot = "{run}"\ngraphroot = "{graph}"\n'
            )
        own = {"CONTAINERS_STORAGE_CONF": str(file), "BUILDAH_ISOLATION": "chroot"}
        return {**os.environ, **own, "ENGINE": "buildah"}

    def buildah(self, *arguments: str) -> str:
        """What a buildah command prints."""
        done = subprocess.run(
            ["buildah", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def script(self, name: str, *arguments: str, **environment: str) -> None:
        """Run a script of ``deploy/images`` as an operator does."""
        done = subprocess.run(
            ["sh", str(IMAGES / name), *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]

    def has(self, tag: str) -> bool:
        """Whether an image is there already."""
        names = self.buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines()
        return tag in names

    def image(self, tag: str) -> Image:
        """An image, unpacked."""
        facts = json.loads(self.buildah("inspect", "--type", "image", tag))
        container = self.buildah("from", tag)
        root = Path(self.buildah("mount", container))
        (size,) = json.loads(self.buildah("images", "--json", tag))
        return Image(self, container, root, facts["Docker"]["config"], str(size["size"]))


@dataclass(frozen=True)
class Image:
    """An image whose containers can be started."""

    storage: Storage
    container: str
    root: Path
    config: dict[str, Any]
    size: str

    def remove(self) -> None:
        """Remove the unpacked copy; the image stays."""
        self.storage.buildah("rm", self.container)

    def bundle(
        self,
        folder: Path,
        arguments: Sequence[str] | None = None,
        mounts: Sequence[tuple[Path, str, str]] = (),
        user: str | None = None,
        groups: Sequence[int] = (),
        entrypoint: Sequence[str] | None = None,
        network: Path | None = None,
    ) -> Path:
        """Write what the runtime needs; ``mounts``: source, target, ``ro`` or ``rw``.

        ``network``: the namespace of another container, where it is shared.
        """
        uid, gid = (int(part) for part in (user or self.config["User"]).split(":"))
        first = self.config["Entrypoint"] if entrypoint is None else entrypoint
        rest = self.config.get("Cmd") or [] if arguments is None else arguments
        tmpfs = ["nosuid", "nodev", "noexec", "mode=1777", "size=1g"]
        namespaces: list[dict[str, str]] = [
            {"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")
        ]
        namespaces.append({"type": "network", **({"path": str(network)} if network else {})})
        facts = {
            "ociVersion": "1.0.2",
            "root": {"path": str(self.root), "readonly": True},
            "process": {
                "user": {"uid": uid, "gid": gid, "additionalGids": list(groups)},
                "cwd": self.config["WorkingDir"],
                "args": [*first, *rest],
                "env": self.config["Env"],
                "noNewPrivileges": True,
                "capabilities": {},
                "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                _tmpfs("/dev", ["nosuid", "mode=755", "size=64k"]),
                _tmpfs("/dev/shm", ["nosuid", "nodev", "mode=1777", "size=256m"]),
                _tmpfs("/tmp", tmpfs),
                *(
                    {"destination": target, "type": "bind", "source": str(source),
                     "options": ["rbind", mode]}
                    for source, target, mode in mounts
                ),
            ],
            "linux": {"namespaces": namespaces},
        }  # fmt: skip
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(facts))
        return folder

    def run(
        self, folder: Path, *arguments: str, timeout_s: float = 300, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        bundle = self.bundle(folder, arguments, **options)
        return subprocess.run(
            runtime("run", "--bundle", str(bundle), f"smrfed-{uuid.uuid4().hex[:12]}"),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def runtime(*arguments: str) -> list[str]:
    """A command line of crun.

    In a mount namespace with one cgroup tree: crun refuses a machine that has both kinds.
    """
    script = 'mount -t cgroup2 none /sys/fs/cgroup && exec crun --cgroup-manager=disabled "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "crun", *arguments]


def _tmpfs(destination: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}
