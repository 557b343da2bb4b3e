"""Lesion segmentation: networks from MONAI with layer A, and their loss per scan."""
