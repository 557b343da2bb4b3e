"""The hospital's own page on its loopback: what the agent does, what was spent, what left."""
