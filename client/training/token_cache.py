"""Tokens of scans on the hospital's disk: a frozen encoder sees every scan once, not once a run."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from client.agent.durable import make_private_folder
from client.training.site_model import SiteModel
from shared_model.batch import Batch, Inputs
from shared_model.errors import SmrfedError
from shared_model.models.entry import TokenModel
from shared_model.protocol.arrays import decode_arrays, encode_arrays


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
        self._model = cast(TokenModel, site_model.model)
        self._encoder = _encoder_digest(site_model, self._model.above_tokens)

    def tokens(self, scan: Inputs) -> Batch:
        """Tokens of one scan, such as ``(1, 1, D, H, W)``."""
        return self.view(scan, b"", lambda: scan)

    def view(self, scan: Inputs, recipe: bytes, make: Callable[[], Inputs]) -> Batch:
        """Tokens of what ``make`` makes of a scan, known by ``recipe``; found, nothing is made."""
        digest = hashlib.sha256(self._encoder)
        for part in (scan,) if isinstance(scan, Tensor) else scan.tensors().values():
            digest.update(np.ascontiguousarray(part.cpu().numpy()).tobytes())
        digest.update(recipe)
        path = self._folder / f"{digest.hexdigest()}.safetensors"
        found = self._read(path)
        if found is None:
            found = self._site_model.tokenise(make())
            self._write(path, found)
        return found

    def _read(self, path: Path) -> Batch | None:
        try:
            arrays = decode_arrays(path.read_bytes())
        except (FileNotFoundError, SmrfedError):
            return None
        if set(arrays) != {field.name for field in fields(self._model.tokens)}:
            return None
        parts = {name: torch.from_numpy(value) for name, value in arrays.items()}
        return self._model.tokens(**parts).to(self._site_model.device)

    def _write(self, path: Path, tokens: Batch) -> None:
        make_private_folder(self._folder)
        body = encode_arrays({name: p.cpu().numpy() for name, p in tokens.tensors().items()})
        temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(body)
        temporary.replace(path)


def _encoder_digest(site_model: SiteModel, above: tuple[str, ...]) -> bytes:
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
        if name.startswith(above) or zero_residual:
            continue
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
