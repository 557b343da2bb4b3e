"""Local training at one hospital."""
