"""Images without annotations."""
