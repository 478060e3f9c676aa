"""Segmentation models: encoder → head → classifier."""
