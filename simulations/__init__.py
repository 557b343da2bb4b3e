"""Federations on one machine: synthetic cohorts, baselines, benchmarks and reports."""
