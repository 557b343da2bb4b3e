"""Measurements of what smrfed itself needs: memory and time."""
