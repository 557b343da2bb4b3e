"""A coordinator's first plan: the file to begin with, and its public initial parameters."""
