"""Write a store in another tool's layout: `alps export STORE --to coco --out DIR`."""

from __future__ import annotations

from alps.export.__main__ import main as start

__all__ = ["start"]
