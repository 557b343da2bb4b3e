"""Runs that are wanted are driven to their end, whatever ends their processes on the way."""
