"""The figures of the report, one per module: each takes the report and returns a Figure or None."""
