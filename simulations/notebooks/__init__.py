"""Notebooks without a notebook server: their cells, run in order."""
