"""From image sets to batches."""
