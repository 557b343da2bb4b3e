"""A hospital's archive: patients, scans, labels, and the split; no torch."""
