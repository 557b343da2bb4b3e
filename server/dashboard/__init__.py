"""The coordinator's read-only web page: runs, rounds, hospitals, and why one is missing."""
