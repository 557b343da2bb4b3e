"""Masks that a model proposes for scans that nobody marked yet, for people to correct."""
