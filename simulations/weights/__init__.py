"""Public weights of others as files that a plan can name."""
