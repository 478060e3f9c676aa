"""The values that pass between the rooms."""
