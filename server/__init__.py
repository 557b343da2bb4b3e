"""The coordinator's side: rounds, aggregation, checkpoints and Flower."""
