"""What the coordinator's monitoring may see: only what was released, and its own machine."""
