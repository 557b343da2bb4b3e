"""Entry points that Flower imports from the bundle."""
