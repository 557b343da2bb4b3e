"""The weighted sum of the sites' updates in integers: exact, order-independent, one copy in memory.

Every value x is rounded once, half to even, to the integer ``q = round(x * 2**32)``; from there on
all arithmetic is in int64 and exact. With ``|x| <= 2**10`` and total weight ``W <= 2**20`` every
partial sum satisfies ``|sum(w * q)| <= 2**62``, so int64 cannot overflow. Sums of int64 are sums
modulo 2**64 (two's complement): masks that cancel modulo 2**64 may later be added to ``w * q`` and
the unmasked sum still comes out exactly, because its true value lies within the int64 range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from server.aggregation.finite import require_finite
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import Arrays

FRACTION_BITS = 32
VALUE_LIMIT = 2.0**10
WEIGHT_LIMIT = 2**20

# Values converted at a time: bounds the temporary float64 and int64 copies to about 4 MB.
CHUNK = 1 << 18

Shapes = Mapping[str, tuple[int, ...]]


def chunks(array: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """Flat pieces of a C-contiguous array, in order, at most ``CHUNK`` values each."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        yield flat[start : start + CHUNK]


def quantise(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """``round_half_even(x * 2**32)``; exact otherwise, for finite values within ``VALUE_LIMIT``."""
    # float32 -> float64 and the power of two are exact, and |q| <= 2**42 fits float64's 53 bits.
    return np.rint(values.astype(np.float64) * 2.0**FRACTION_BITS).astype(np.int64)


class FixedPointSum:
    """Adds one weighted update at a time, by name; the result does not depend on the order.

    Memory: 8 bytes per parameter, whatever the number of sites.

    Args:
        shapes: name and shape of every parameter that an update must hold.
        total_weight: the plan's public weights of all sites, added up.

    Raises SMR-E511 when ``total_weight`` could overflow the sum.
    """

    def __init__(self, shapes: Shapes, total_weight: int) -> None:
        if not 1 <= total_weight <= WEIGHT_LIMIT:
            raise SmrfedError(
                "SMR-E511",
                "the plan's site weights are too large for an exact sum",
                expected=f"a total weight between 1 and {WEIGHT_LIMIT}",
                found=total_weight,
                remedy='set federation.weighting = "equal" in the plan',
            )
        self._total_weight = total_weight
        self._sums = {
            name: np.zeros(shape, dtype=np.int64) for name, shape in sorted(shapes.items())
        }
        self._weight = 0

    @property
    def weight(self) -> int:
        """Sum of the weights added so far: the denominator of the mean."""
        return self._weight

    def add(self, update: Arrays, weight: int) -> None:
        """Add ``weight * update``: all of it, or nothing when it raises.

        Raises SMR-E510 when a value is not within ``VALUE_LIMIT`` (NaN is not), SMR-E511 when the
        weights would exceed the total, SMR-E515 or SMR-E516 when names or shapes differ.
        """
        if weight < 1 or self._weight + weight > self._total_weight:
            raise SmrfedError(
                "SMR-E511",
                "an update's weight does not fit the plan's total weight",
                expected=f"between 1 and {self._total_weight - self._weight}",
                found=weight,
                remedy="report this: a site was counted twice",
            )
        require_shapes(update, {name: total.shape for name, total in self._sums.items()})
        for name, values in update.items():
            require_range(name, values)
        for name, total in self._sums.items():
            flat = total.reshape(-1)
            for index, piece in enumerate(chunks(update[name])):
                start = index * CHUNK
                flat[start : start + piece.size] += quantise(piece) * weight
        self._weight += weight

    def totals(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """The exact integer sums, in units of ``2**-32``."""
        return self._sums

    def mean(self) -> dict[str, npt.NDArray[np.float64]]:
        """``sum / weight``, float64: as :meth:`step` computes it; 8 more bytes per parameter."""
        if self._weight == 0:
            raise ZeroDivisionError("no update was added to the sum")
        return {
            name: total.astype(np.float64) / self._weight * 2.0**-FRACTION_BITS
            for name, total in self._sums.items()
        }

    def step(self, parameters: Arrays, learning_rate: float) -> dict[str, npt.NDArray[np.float32]]:
        """The next global parameters: ``float32(theta + learning_rate * sum / weight)``.

        The quotient, product and sum are float64, each rounded once (relative error 2**-53), in
        this order on every machine; the last rounding is to float32. Raises SMR-E521 when a new
        parameter is not finite, ZeroDivisionError when nothing was added.
        """
        if self._weight == 0:
            raise ZeroDivisionError("no update was added to the sum")
        out: dict[str, npt.NDArray[np.float32]] = {}
        for name, total in self._sums.items():
            new = np.empty(total.shape, dtype=np.float32)
            flat_total, flat_new = total.reshape(-1), new.reshape(-1)
            for index, theta in enumerate(chunks(parameters[name])):
                part = slice(index * CHUNK, index * CHUNK + theta.size)
                mean = flat_total[part].astype(np.float64) / self._weight * 2.0**-FRACTION_BITS
                with np.errstate(over="ignore"):
                    flat_new[part] = (theta.astype(np.float64) + learning_rate * mean).astype(
                        np.float32
                    )
                require_finite(name, flat_new[part])
            out[name] = new
        return out


def require_shapes(update: Arrays, shapes: Shapes) -> None:
    """Exactly these names (else SMR-E515) with exactly these shapes (else SMR-E516)."""
    missing, extra = sorted(shapes.keys() - update.keys()), sorted(update.keys() - shapes.keys())
    if missing or extra:
        raise SmrfedError(
            "SMR-E515",
            "an update does not hold exactly the shared parameters",
            expected=f"{len(shapes)} names; missing here: {_some(missing)}",
            found=f"{len(update)} names; not shared: {_some(extra)}",
            remedy="check that the site runs the plan's model at the same smrfed version",
        )
    for name, shape in shapes.items():
        if update[name].shape != tuple(shape):
            raise SmrfedError(
                "SMR-E516",
                f"an update's parameter {name[:200]!r} has another shape",
                expected=tuple(shape),
                found=update[name].shape,
                remedy="check that the site runs the plan's model configuration",
            )


def require_range(name: str, values: npt.NDArray[np.float32]) -> None:
    """All values within ``VALUE_LIMIT``, which NaN and infinity are not; raises SMR-E510."""
    for piece in chunks(values):
        largest = np.abs(piece).max()
        if not largest <= VALUE_LIMIT:
            raise SmrfedError(
                "SMR-E510",
                f"an update of parameter {name!r} lies outside the range of the exact sum",
                expected=f"absolute values up to {VALUE_LIMIT:g}",
                found=f"{largest:g}",
                remedy="the site's training has diverged: look at its learning rate and its data",
            )


def _some(names: list[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:5])
    return (shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"
