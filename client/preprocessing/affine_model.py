"""The parameters of an affine map, scaled so that each moves the brain's edge alike.

A step of one in any parameter moves the edge of the brain by about one millimetre; this is what
makes LBFGS fast here.
"""

from __future__ import annotations

import math

import torch

from client.preprocessing.image import Affine

# Distance from a brain's centre to its edge: angles, log scales and shears are divided by it.
_RADIUS_MM = 70.0


class AffineModel:
    """Up to 12 parameters about the brains' centres: MNI mm to scanner mm.

    ``x_scan = c_scan + t + s R S H (x_mni - c_mni)``: translation, rotation (matrix exponential),
    scales (exponential, so never a reflection) and shears (upper triangle).

    Args:
        mni_centre: ``(3,)`` mm.
        scan_centre: ``(3,)`` mm.
        scale: size of the scan's brain over the template's; ignored for 6 degrees of freedom.
        degrees_of_freedom: 6 rigid, 9 with scales, 12 with shears.
        turn: ``(3, 3)`` a rotation of the template that the parameters start from.
    """

    def __init__(
        self,
        mni_centre: Affine,
        scan_centre: Affine,
        scale: float,
        degrees_of_freedom: int,
        turn: Affine | None = None,
    ) -> None:
        self._before = torch.eye(4, dtype=torch.float64)
        self._before[:3, 3] = -torch.from_numpy(mni_centre)
        if turn is not None:
            self._before[:3] = torch.from_numpy(turn) @ self._before[:3]
        self._after = torch.eye(4, dtype=torch.float64)
        self._after[:3, 3] = torch.from_numpy(scan_centre)
        self._scale = scale if degrees_of_freedom > 6 else 1.0
        self._free = torch.arange(12) < degrees_of_freedom

    def start(self, pitch_degrees: float) -> torch.Tensor:
        """Parameters ``(12,)`` of a head turned about its left-right axis."""
        theta = torch.zeros(12, dtype=torch.float64)
        theta[3] = math.radians(pitch_degrees) * _RADIUS_MM
        return theta

    def matrix(self, theta: torch.Tensor) -> torch.Tensor:
        """``(4, 4)`` float64, MNI mm to scanner mm; determinant above 0."""
        theta = torch.where(self._free, theta, torch.zeros_like(theta))
        x, y, z = theta[3:6] / _RADIUS_MM
        zero = torch.zeros_like(x)
        spin = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
        a, b, c = theta[9:12] / _RADIUS_MM
        one = torch.ones_like(a)
        shear = torch.stack([one, a, b, zero, one, c, zero, zero, one]).reshape(3, 3)
        linear = torch.matrix_exp(spin) @ torch.diag(torch.exp(theta[6:9] / _RADIUS_MM)) @ shear
        top = torch.cat([self._scale * linear, theta[:3, None]], dim=1)
        last = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=theta.dtype)
        return self._after @ torch.cat([top, last]) @ self._before
