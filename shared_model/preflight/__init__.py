"""Checks that a person runs before taking part: one finding each, whatever the others do."""
