"""The label store: its layout on disk, and the coordination of processes that share it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
