"""How far below the clipping norm a gradient is clipped."""

from __future__ import annotations

#: Relative. Rounding then never exceeds C: neither that of the sum in float64, nor what one patient
#: more does to the float32 gradients of the others, which come from the same products and may be
#: added up in another order (measured: 1e-8 of C each), nor that of every gradient to the integer
#: grid of a secure sum (sqrt(d) / 2 grid steps, to which plans are held).
CLIPPING_MARGIN = 1e-4
