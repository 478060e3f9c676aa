"""Mask sources: what proposes, prompts or reads the masks of an image."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
