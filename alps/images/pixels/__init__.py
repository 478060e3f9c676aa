"""Read images with a class for each pixel."""
