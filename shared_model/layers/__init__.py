"""Layers that absorb differences between sites."""
