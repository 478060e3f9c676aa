"""Read SAMRS (arXiv 2305.02034): its images, boxes and labels."""
