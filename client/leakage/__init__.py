"""No image and no patient on two sides: overlap of cohorts, and the record of the split."""
