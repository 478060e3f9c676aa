"""Benchmarks of speed and quality against peers in the same run; README.md has the results."""
