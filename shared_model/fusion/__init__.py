"""Late fusion of two image networks and clinical data."""
