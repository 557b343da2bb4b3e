"""The report of a run out of what the coordinator has: nothing of it is a patient's."""
