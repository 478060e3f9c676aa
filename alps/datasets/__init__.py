"""Torch datasets, samplers and augmentation on top of image sets."""
