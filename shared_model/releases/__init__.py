"""What leaves a hospital beside updates: bounded sums over patients, by name and shape."""
