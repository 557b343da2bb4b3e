"""What each privacy mode is worth at equal epsilon: against epsilon and the number of hospitals."""
