"""What fusion of imaging and clinical data is worth where each knows what the other does not."""
