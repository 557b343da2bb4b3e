"""Region volumes as model inputs: the public constants that make them comparable."""
