"""A synthetic multi-site T1 cohort with known truth."""
