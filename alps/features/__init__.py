"""What a mask looks like, as a vector."""
