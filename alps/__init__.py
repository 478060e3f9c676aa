"""ALPS: unlabelled remote-sensing imagery in, segmentation models out.

The import does nothing; take what you need from the rooms:
``from alps.store.label_store import LabelStore``.
"""

__version__ = "0.1.0"
