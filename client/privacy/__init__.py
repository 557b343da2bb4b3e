"""Randomness and accounting of the patient-level guarantee."""
