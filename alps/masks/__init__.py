"""Mask sources: generate the masks of an image, or read them from a label store."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
