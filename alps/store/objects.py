"""The table of objects/: which masks of windows are pieces of one object."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

OBJECTS = pa.schema(
    [
        ("object_id", pa.int64()),
        ("shared", pa.bool_()),
        ("kept", pa.bool_()),
        ("area", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class ObjectPieces:
    """The objects of the masks of a shard, in the order of the masks."""

    object_id: Int64[np.ndarray, " N"]  # lowest row of the object's masks, over all shards
    shared: Bool[np.ndarray, " N"]  # whether other windows have masks of the object
    kept: Bool[np.ndarray, " N"]  # False: drawn by another mask, or not at all
    area: Int64[np.ndarray, " N"]  # of the object, px

    def to_table(self) -> pa.Table:
        """Return the table of objects/."""
        return pa.table({f.name: getattr(self, f.name) for f in fields(self)}, schema=OBJECTS)

    @classmethod
    def from_table(cls, table: pa.Table) -> ObjectPieces:
        """Return the objects in a table."""
        return cls(**{name: table[name].to_numpy(zero_copy_only=False) for name in OBJECTS.names})
