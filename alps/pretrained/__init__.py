"""Pretrained weights: their names, their cache, and the encoders that use them."""
