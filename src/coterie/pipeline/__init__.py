"""The stages of a run in order, from labelled samples to the report."""
