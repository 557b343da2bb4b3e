"""Are the explanations right? Measured on synthetic patients whose atrophy is known."""
