"""Synthetic connectomes whose truth is known, and the study of ConneX on them."""
