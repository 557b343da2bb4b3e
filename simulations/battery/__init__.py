"""Whether each adaptation layer does what it says, on cohorts whose truth is known."""
