"""Append-only records whose every entry holds the digest of the one before."""
