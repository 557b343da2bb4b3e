"""From noised sums over patients to figures with honest intervals, and to a decision rule."""
