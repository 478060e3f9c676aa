"""Read images without annotations."""
