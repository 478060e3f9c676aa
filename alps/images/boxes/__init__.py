"""Read images with one box per object; one module per published layout."""
