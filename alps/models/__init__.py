"""Segmentation networks: encoder → head → classifier."""
