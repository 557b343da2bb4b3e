"""Draws of dropout: repeatable without privacy, secret with it; the process's own stay alone."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from shared_model.privacy.secure_random import SeededRandom


@contextmanager
def deterministic(device: torch.device, random: SeededRandom) -> Iterator[None]:
    """Deterministic kernels, and torch generators seeded from ``random`` (dropout draws from them).

    On CPU the result depends on the inputs, the machine and the number of torch threads only, which
    is the caller's to fix. On CUDA, kernels without a deterministic form are reported, not refused.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    seed = int(random.uniform(1)[0] * 2**53)
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=on_gpu)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned_only)


@contextmanager
def secret_draws(device: torch.device) -> Iterator[None]:
    """Torch generators seeded by the operating system, whatever seeded them before.

    Dropout gives each patient a draw of their own, and one patient less shifts the draws of the
    others: a private sum is bounded in distribution only, and so only where nobody knows the draws.
    """
    on_gpu = device.type == "cuda"
    seed = secrets.randbits(63)
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield
