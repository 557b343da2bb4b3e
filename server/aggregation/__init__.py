"""Exact aggregation of the sites' updates."""
