"""Export of a label store to other layouts: COCO, SA-1B, SAMRS, YouTube-VIS and overlays."""

from alps.export.layouts import LAYOUTS, export_store

__all__ = ["LAYOUTS", "export_store"]
