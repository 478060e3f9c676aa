"""A label store in the layouts of other tools (COCO, SA-1B, SAMRS, YouTube-VIS), and drawn."""

from alps.export.layouts import LAYOUTS, export_store

__all__ = ["LAYOUTS", "export_store"]
