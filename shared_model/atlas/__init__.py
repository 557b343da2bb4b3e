"""The parcellation that all parties share, and the graph on its regions."""
