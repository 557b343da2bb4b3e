"""A small 3D vision transformer."""
