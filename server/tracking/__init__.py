"""Experiment tracking as an option: what a run released, in TensorBoard or MLflow."""
