"""Named arrays as bytes: safetensors, canonical, bounded, free of code.

float32; in the exchanges of secure aggregation uint8 and uint64 instead."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shared_model.errors import SmrfedError

Arrays = Mapping[str, npt.NDArray[np.float32]]
Integers = npt.NDArray[np.uint8] | npt.NDArray[np.uint64]

_MAX_NAMES = 100_000
# The names, dtypes and offsets that safetensors writes before the numbers, generously.
_HEADER_BYTES_PER_ARRAY = 512


def encode_arrays(arrays: Arrays) -> bytes:
    """Encode arrays by name; the bytes do not depend on the mapping's order.

    Raises SMR-E114 when an array is not float32: another dtype would be rounded without notice.
    """
    return _encode(arrays, ("float32",))


def encode_integers(arrays: Mapping[str, Integers]) -> bytes:
    """Encode uint8 and uint64 arrays by name, as secure aggregation sends them; SMR-E114 else."""
    return _encode(arrays, ("uint8", "uint64"))


def _encode(arrays: Mapping[str, npt.NDArray[Any]], dtypes: tuple[str, ...]) -> bytes:
    out: dict[str, npt.NDArray[Any]] = {}
    for name in sorted(arrays):
        value = arrays[name]
        if value.dtype not in dtypes:
            raise SmrfedError(
                "SMR-E114",
                f"array {name!r} cannot be sent",
                expected=" or ".join(dtypes),
                found=f"{value.dtype}, shape {value.shape}",
                remedy=f"convert it to {dtypes[0]} at the place where it is made",
            )
        out[name] = np.asarray(value, order="C")
    return save(out)


def decode_arrays(body: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Decode bytes that may come from a hostile peer; raises SMR-E115, never executes anything.

    Memory is bounded by the size of ``body``; the arrays are copies, sorted by name.
    """
    return _decode(body, {"F32": "float32"})


def decode_integers(body: bytes) -> dict[str, Integers]:
    """As :func:`decode_arrays`, of uint8 and uint64 arrays and no others."""
    return _decode(body, {"U8": "uint8", "U64": "uint64"})


def _decode(body: bytes, dtypes: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    try:
        # The header is read first, so that another dtype or an absurd number of names is refused
        # before any array is made.
        size = int.from_bytes(body[:8], "little")
        header = json.loads(body[8 : 8 + size]) if 0 < size <= len(body) - 8 else {}
        names = [name for name in header if name != "__metadata__"]
        if len(names) > _MAX_NAMES:
            raise _malformed(f"{len(names)} arrays", f"at most {_MAX_NAMES}")
        for name in names:
            dtype = header[name]["dtype"]
            if dtype not in dtypes:
                wanted = " or ".join(f"{short} ({long})" for short, long in dtypes.items())
                raise _malformed(f"{name}: {dtype}", wanted)
        decoded = load(body)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _malformed(f"{type(error).__name__}: {error}"[:200], "safetensors") from None
    return {name: decoded[name] for name in sorted(decoded)}


def encode_any(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Arrays of one reply: all float32, or uint8 and uint64; raises SMR-E114."""
    if all(value.dtype == "float32" for value in arrays.values()):
        return encode_arrays(arrays)
    return encode_integers(arrays)


def decode_any(body: bytes) -> dict[str, npt.NDArray[Any]]:
    """Arrays of any reply; raises SMR-E115."""
    return _decode(body, {"F32": "float32", "U8": "uint8", "U64": "uint64"})


def largest_body(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Bytes that arrays of these shapes take at most, encoded: the numbers, and room for names."""
    numbers = sum(math.prod(shape) for shape in shapes.values())
    return 4 * numbers + _HEADER_BYTES_PER_ARRAY * (1 + len(shapes))


def body_digest(body: bytes) -> str:
    """SHA-256 of encoded arrays, as 64 hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()


def _malformed(found: object, expected: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E115",
        "the arrays of a message cannot be decoded",
        expected=expected,
        found=found,
        remedy="check that both ends run the same smrfed version; if they do, refuse the sender",
    )
