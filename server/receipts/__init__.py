"""What the coordinator received of the sites, accepted or refused, and what it signs for."""
