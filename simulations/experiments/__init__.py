"""Longer experiments whose results are recorded in docs/."""
