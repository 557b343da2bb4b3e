"""What is in the model registry, described and checked."""
