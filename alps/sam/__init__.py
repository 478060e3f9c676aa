"""Segment Anything (arXiv 2304.02643) behind one protocol: embed an image, predict from prompts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
