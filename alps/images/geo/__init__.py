"""Provide image sets of georeferenced rasters, which are read by windows."""
