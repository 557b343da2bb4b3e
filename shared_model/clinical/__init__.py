"""Clinical variables as model inputs: which, in which mode, and with which public constants."""
