"""Durable state of a run on the coordinator's disk."""
