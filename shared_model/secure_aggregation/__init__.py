"""Sums of the sites' vectors that show nobody more than the sum (Bonawitz et al. 2017)."""
