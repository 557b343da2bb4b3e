"""Processes that are kept alive, logged and ended, and the checks before they are started."""
