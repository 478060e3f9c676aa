"""Checks and measurements for the day a GPU is at hand; see `benchmarks.gpu.__main__`."""
