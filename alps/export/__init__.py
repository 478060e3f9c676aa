"""A label store in the layouts that other tools read: COCO, SA-1B, SAMRS."""

from alps.export.layouts import LAYOUTS, export_store

__all__ = ["LAYOUTS", "export_store"]
