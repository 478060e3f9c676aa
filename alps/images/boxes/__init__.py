"""Images with a box for each object: one file for each published layout."""
