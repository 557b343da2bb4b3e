"""The public reference of region volumes, made from the public synthetic cohort."""
