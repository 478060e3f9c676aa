"""Scores of masks, clusters and index maps against ground truth."""
