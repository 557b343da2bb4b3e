"""The evaluation report of one federation: typed results in JSON, drawn as one HTML file."""
