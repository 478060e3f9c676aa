"""How good labels and masks are, against ground truth."""
