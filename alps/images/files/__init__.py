"""Read untrusted image and annotation files into arrays and annotations."""
