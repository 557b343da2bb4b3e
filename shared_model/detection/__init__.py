"""Detection of lesions: boxes with scores from one volume."""
