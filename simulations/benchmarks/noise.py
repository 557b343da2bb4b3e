"""Processor time of the exact discrete Gaussian beside the float64 normals of mode ``local``.

Run ``python -m simulations.benchmarks.noise --numbers 900000``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

from shared_model.privacy.discrete_gaussian import DiscreteGaussian
from shared_model.privacy.secure_random import SecureRandom
from simulations.benchmarks.machine import Machine


def main(
    numbers: Annotated[int, typer.Option(min=1)] = 900_000,
    repeats: Annotated[int, typer.Option(min=1)] = 9,
    bits: Annotated[int, typer.Option(min=0, max=47, help="log2 of the deviation")] = 40,
) -> None:
    """Print the least processor time of several draws: other programs do not count."""
    random = SecureRandom()
    gaussian = DiscreteGaussian(4.0**bits, random)
    ways: dict[str, Callable[[], object]] = {
        "float64 normals, Box and Muller": lambda: random.normal(numbers),
        f"discrete Gaussian, s = 2^{bits}": lambda: gaussian.draw(numbers),
    }
    for name, draw in ways.items():
        least = min(_seconds(draw) for _ in range(repeats))
        print(f"{name}: {1e3 * least:.1f} ms for {numbers:,} numbers")
    print(Machine.now())


def _seconds(draw: Callable[[], object]) -> float:
    start = time.process_time()
    draw()
    return time.process_time() - start


if __name__ == "__main__":
    typer.run(main)
