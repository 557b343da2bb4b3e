"""A hospital that took no part adapts a released model to its own scans; nothing of it leaves."""
