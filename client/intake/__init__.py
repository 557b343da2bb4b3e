"""From a hospital's DICOM files to a private, pseudonymous BIDS dataset; no torch."""
