"""``smrfed-coordinator check``: what the operator runs before and while sites take part."""
