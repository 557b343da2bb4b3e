"""Augmentation of training scans: effects of scanner and pose, deterministic per patient."""
