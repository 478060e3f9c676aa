"""Pretrained weights: their names, their cache, and the encoders that take them."""
