"""Counts of the contents of a label store."""
