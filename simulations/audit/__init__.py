"""Attacks on the real engine, held against the epsilon that it claims (docs/audit.md)."""
