"""Tokens of scans on the hospital's disk: a frozen encoder sees every scan once, not once a run."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import decode_arrays, encode_arrays
from shared_model.smrnet.tokens import Tokens

# Parameters and constants that only see tokens (see shared_model.registry.TokenModel).
_ABOVE = "reasoner."


class TokenCache:
    """Content-addressed tokens: the same encoder, atlas, device kind and volume give the same file.

    Files hold patient data: they are readable by their owner only and never leave. A file that was
    damaged counts as missing. The tokens are the same bits as without the cache.

    Args:
        folder: made on first use; safe to delete at any time.
        site_model: a model with :attr:`SiteModel.uses_tokens`.
    """

    def __init__(self, folder: Path, site_model: SiteModel) -> None:
        self._folder = folder
        self._site_model = site_model
        self._encoder = _encoder_digest(site_model)

    def tokens(self, volume: Tensor) -> Tokens:
        """Tokens of one scan ``(1, 1, D, H, W)``."""
        return self.view(volume, b"", lambda: volume)

    def view(self, volume: Tensor, recipe: bytes, make: Callable[[], Tensor]) -> Tokens:
        """Tokens of what ``make`` makes of a scan, known by ``recipe``; found, nothing is made."""
        digest = hashlib.sha256(self._encoder)
        digest.update(np.ascontiguousarray(volume.cpu().numpy()).tobytes())
        digest.update(recipe)
        path = self._folder / f"{digest.hexdigest()}.safetensors"
        found = self._read(path)
        if found is None:
            found = self._site_model.tokenise(make())
            self._write(path, found)
        return found

    def _read(self, path: Path) -> Tokens | None:
        try:
            arrays = decode_arrays(path.read_bytes())
        except (FileNotFoundError, SmrfedError):
            return None
        if set(arrays) != {"regions", "slices"}:
            return None
        regions, slices = (torch.from_numpy(arrays[name]) for name in ("regions", "slices"))
        return Tokens(regions, slices).to(self._site_model.device)

    def _write(self, path: Path, tokens: Tokens) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        parts = {"regions": tokens.regions, "slices": tokens.slices}
        body = encode_arrays({name: part.cpu().numpy() for name, part in parts.items()})
        temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(body)
        temporary.replace(path)


def _encoder_digest(site_model: SiteModel) -> bytes:
    """Digest over everything below the tokens: encoder, atlas constants, device kind.

    What lies above, such as another read-out or another mode of layer A there, shares the tokens;
    a residual at zero is no part of what the encoder computes.
    """
    digest = hashlib.sha256(f"tokens-v4 {site_model.device.type} {torch.__version__}".encode())
    frozen = zip(
        site_model.groups["frozen"], site_model.parameters(site_model.groups["frozen"]), strict=True
    )
    everything = (*frozen, *site_model.model.named_buffers())
    for name, value in sorted(everything, key=lambda item: item[0]):
        array = value.detach().cpu().numpy()
        zero_residual = name.endswith((".site_scale", ".site_shift")) and not array.any()
        if name.startswith(_ABOVE) or zero_residual:
            continue
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
