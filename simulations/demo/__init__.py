"""The demonstration: four hospitals and an unseen fifth, from nothing to a report."""
