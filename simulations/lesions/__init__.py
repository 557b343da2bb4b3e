"""Synthetic lesions of known place and size, and what models make of them."""
