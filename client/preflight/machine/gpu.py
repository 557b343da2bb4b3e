"""Whether training finds its GPU: driver, torch's build, memory, and the card's generation."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from dataclasses import dataclass, replace
from pathlib import Path

from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_LEAST_FREE_BYTES = 2 << 30


@dataclass(frozen=True)
class GpuFacts:
    """What there is; ``None`` and empty where nothing tells.

    Args:
        driver: version of NVIDIA's kernel driver (``535.104.05``).
        driver_cuda: newest CUDA that the driver runs, ``(12, 2)``.
        torch_cuda: CUDA that torch was built with, ``12.8``; none for a build without.
        name, capability, free_bytes: of the device that would be used, where torch reaches it.
        architectures: for which torch was built: ``sm_80``, ``sm_90``.
        count: devices that torch reaches.
    """

    driver: str | None = None
    driver_cuda: tuple[int, int] | None = None
    torch_cuda: str | None = None
    name: str | None = None
    capability: tuple[int, int] | None = None
    free_bytes: int | None = None
    architectures: tuple[str, ...] = ()
    count: int = 0


def check_device(site: CheckedSite) -> str:
    """What training would run on; raises SMR-E421 and SMR-E439."""
    if importlib.util.find_spec("torch") is None:
        return Note("torch is not installed here: training needs it, the other commands do not")
    wanted = site.config.device
    return f"{judge(wanted, _facts(wanted))}, threads = {site.config.threads}"


def judge(wanted: str, facts: GpuFacts) -> str:
    """One sentence on the device, or SMR-E421 (none of that name), SMR-E439 (it cannot be used)."""
    if wanted == "cpu":
        return f"cpu, as site.toml says{'' if facts.count == 0 else '; there is a GPU'}"
    if facts.count == 0:
        reason = _why_none(facts)
        if wanted == "auto" and facts.driver is None:
            return "cpu: no GPU in this machine; training is slower, the result is the same"
        if wanted == "auto":
            raise _unusable(reason, facts)
        raise SmrfedError(
            "SMR-E421",
            "the site's configuration asks for a GPU that torch cannot use",
            expected=wanted,
            found=reason,
            remedy='set device = "auto" or "cpu" in site.toml, or repair the GPU driver',
        )
    index = int(wanted.partition(":")[2] or 0)
    if index >= facts.count:
        raise SmrfedError(
            "SMR-E421",
            "the site's configuration asks for a GPU that torch cannot use",
            expected=wanted,
            found=f"{facts.count} CUDA devices",
            remedy='set device = "auto", "cuda" or "cuda:0" in site.toml',
        )
    if facts.capability is not None and not _built_for(facts.capability, facts.architectures):
        raise _unusable(
            f"{facts.name} is of generation {facts.capability[0]}.{facts.capability[1]}, for which "
            f"this torch was not built ({', '.join(facts.architectures)})",
            facts,
        )
    text = f"cuda: {facts.name}, driver {facts.driver or 'unknown'}, CUDA {facts.torch_cuda}"
    if facts.free_bytes is None:
        return text
    text += f", {facts.free_bytes / 2**30:.1f} GiB free"
    if facts.free_bytes < _LEAST_FREE_BYTES:
        raise _unusable(f"{text}: other processes hold its memory (nvidia-smi)", facts)
    return text


def _why_none(facts: GpuFacts) -> str:
    if facts.torch_cuda is None:
        return "this torch is built without CUDA" + (
            f", and there is a GPU with driver {facts.driver}" if facts.driver else ""
        )
    if facts.driver is None:
        return f"no NVIDIA driver is loaded; torch is built for CUDA {facts.torch_cuda}"
    built = tuple(int(part) for part in facts.torch_cuda.split(".")[:2])
    # Within one major version an older driver runs newer builds.
    if facts.driver_cuda is not None and facts.driver_cuda[0] < built[0]:
        return (
            f"driver {facts.driver} runs CUDA up to {facts.driver_cuda[0]}.{facts.driver_cuda[1]}, "
            f"torch is built for {facts.torch_cuda}"
        )
    return (
        f"driver {facts.driver} is loaded and torch is built for CUDA {facts.torch_cuda}, but no "
        "device answers: in a container, hand the GPU in; otherwise see nvidia-smi"
    )


def _built_for(capability: tuple[int, int], architectures: tuple[str, ...]) -> bool:
    """Whether binaries of the same major generation are there, or code for an earlier one (PTX)."""
    if not architectures:
        return True
    for name in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name)
        if found is None:
            return True
        kind, major, minor = found[1], int(found[2]), int(found[3])
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
        if kind == "compute" and (major, minor) <= capability:
            return True
    return False


def _unusable(found: str, facts: GpuFacts) -> SmrfedError:
    return SmrfedError(
        "SMR-E439",
        "there is a GPU, and training cannot use it",
        expected=f"a driver and a torch build that fit (torch: CUDA {facts.torch_cuda or 'none'})",
        found=found,
        remedy="update the driver, install the torch build for it (pytorch.org), or set device = "
        '"cpu" in site.toml',
    )


def _driver() -> str | None:
    try:
        found = re.search(r"\b(\d{3,}\.\d[\d.]*)\b", _DRIVER_FILE.read_text("ascii", "replace"))
    except OSError:
        return None
    return found[1] if found else "of unknown version"


def _driver_cuda() -> tuple[int, int] | None:
    """Asked of the driver itself: torch may be absent or built without CUDA."""
    version = ctypes.c_int()
    try:
        library = ctypes.CDLL("libcuda.so.1")
        if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10


def _facts(wanted: str) -> GpuFacts:
    import torch

    facts = GpuFacts(driver=_driver(), driver_cuda=_driver_cuda(), torch_cuda=torch.version.cuda)
    if wanted == "cpu" or not torch.cuda.is_available():
        return facts
    count = torch.cuda.device_count()
    index = min(int(wanted.partition(":")[2] or 0), count - 1)
    free, _ = torch.cuda.mem_get_info(index)
    return replace(
        facts,
        name=torch.cuda.get_device_name(index),
        capability=torch.cuda.get_device_capability(index),
        free_bytes=free,
        architectures=tuple(torch.cuda.get_arch_list()),
        count=count,
    )
