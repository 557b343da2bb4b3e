"""What drove a model's output, and how far that can be trusted."""
