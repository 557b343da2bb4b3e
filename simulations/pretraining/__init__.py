"""Public pretraining of the encoder on synthetic anatomy."""
