"""From a scan in MNI space to a model input, kept on the hospital's disk."""
