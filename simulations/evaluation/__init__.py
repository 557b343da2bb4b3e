"""Scores and explanations on test patients."""
