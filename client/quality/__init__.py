"""Whether a scan can be trusted: measures, verdicts, a person's decisions, and the page to see."""
