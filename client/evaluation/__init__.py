"""A hospital evaluates the models it holds on its own test patients; nothing of it leaves."""
