"""Explanations of single scans, at the hospital and for the hospital alone."""
