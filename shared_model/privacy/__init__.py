"""Accounting of differential privacy, the same for every party."""
