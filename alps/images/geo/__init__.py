"""Rasters of the Earth by windows, and vector layers as their labels."""
