"""ALPS: unlabelled remote-sensing imagery in, segmentation models out.

The import does nothing: the functions here, and the classes of the rooms (`alps.images`,
`alps.masks`, ...), are imported when they are first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
