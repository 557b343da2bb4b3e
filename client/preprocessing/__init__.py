"""From a scan as acquired to the MNI152 grid: one step per module."""
