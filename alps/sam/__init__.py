"""Segment Anything (arXiv 2304.02643): embed an image, then predict masks from prompts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
