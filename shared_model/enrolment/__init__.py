"""What a coordinator and a hospital say to each other before, and beside, the rounds."""
