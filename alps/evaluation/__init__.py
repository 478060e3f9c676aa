"""Evaluation of labels and masks against ground truth."""
