"""Experiments as TOML files: which hospitals, which arms, which comparisons; no code."""
